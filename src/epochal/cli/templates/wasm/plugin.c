/* Plugin `example`. `python build_example.py` compiles it and puts example.toml into the module.
 * A function gets whole columns: see epochal.h, and "Plugins in WebAssembly" in Epochal's docs. */
#include "epochal.h"

EPOCHAL_PLUGIN

static uint32_t append(char *to, uint32_t at, const char *from, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) to[at + i] = from[i];
  return at + length;
}

/* greet(name: utf8) -> utf8 */
EPOCHAL_EXPORT(greet) {
  const epochal_column *name = &arguments[0];
  const char *names = name->data;
  char *texts = result->data;
  /* "Hello, " and "!" are 8 bytes. With too little room, ask for more, and be called again. */
  uint32_t needed = 8 * (uint32_t)name->length + (uint32_t)name->offsets[name->length];
  if (needed > result->capacity) return (int32_t)needed;
  uint32_t at = 0;
  for (int32_t row = 0; row < name->length; row++) {
    uint32_t begin = (uint32_t)name->offsets[row], end = (uint32_t)name->offsets[row + 1];
    result->offsets[row] = (int32_t)at;
    at = append(texts, at, "Hello, ", 7);
    at = append(texts, at, names + begin, end - begin);
    at = append(texts, at, "!", 1);
  }
  result->offsets[name->length] = (int32_t)at;
  return EPOCHAL_DONE;
}
