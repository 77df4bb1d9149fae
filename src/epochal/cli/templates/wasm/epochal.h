/* The interface between Epochal and a WebAssembly plugin, version 1: docs/wasm.md describes it.
 *
 * Build a plugin freestanding, without a C library:
 *   python -m ziglang cc -target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry -o geo.wasm geo.c
 */
#ifndef EPOCHAL_H
#define EPOCHAL_H

#include <stdint.h>

/* A column of Arrow data: an argument, or the room for a result. */
typedef struct {
  int32_t length;    /* rows */
  uint8_t *validity; /* a bit for each row, 1 for a value; 0 (no bitmap): no row is null */
  void *data;        /* the values; for bool a bit for each row */
  int32_t *offsets;  /* of length + 1 texts; 0 for types of a fixed size */
  uint32_t capacity; /* bytes at data */
} epochal_column;

/* Every function that the host calls: `arguments` is an array of columns, `result` as well. */
#define EPOCHAL_EXPORT(name)                                                                       \
  __attribute__((export_name(#name))) int32_t name(epochal_column *arguments, epochal_column *result)

/* Once in each plugin: for which version of the interface it is made. */
#define EPOCHAL_PLUGIN                                                                             \
  __attribute__((export_name("epochal_interface_1"))) void epochal_interface_1(void) {}

enum { EPOCHAL_DONE = 0, EPOCHAL_MORE = 1, EPOCHAL_FAILED = -1 };

/* Make a row of a nullable result null. */
static inline void epochal_set_null(epochal_column *column, int32_t row) {
  column->validity[row / 8] &= (uint8_t)~(1 << (row % 8));
}

static inline int epochal_is_null(const epochal_column *column, int32_t row) {
  return column->validity && !(column->validity[row / 8] >> (row % 8) & 1);
}

/* Fail with a message: `return epochal_fail(result, "…", sizeof "…" - 1)`. */
static inline int32_t epochal_fail(epochal_column *result, const char *text, uint32_t length) {
  result->data = (void *)text;
  result->capacity = length;
  return EPOCHAL_FAILED;
}

#endif
