/* Distances in kilometres, and the mean of them. epochal.h is what `epochal new --wasm c` writes:
 *   python -m ziglang cc -target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -I ../../src/epochal/cli/templates/wasm -o geo.wasm geo.c */
#include "epochal.h"

EPOCHAL_PLUGIN

#define PI 3.14159265358979323846
#define EARTH_KM 6371.0088

/* There is no C library, so the functions of an angle are here: Taylor series near zero. */
static double sine(double x) {
  while (x > PI) x -= 2 * PI;
  while (x < -PI) x += 2 * PI;
  if (x > PI / 2) x = PI - x;
  if (x < -PI / 2) x = -PI - x;
  double square = x * x, term = x, sum = x;
  for (int n = 1; n < 11; n++) {
    term *= -square / ((2 * n) * (2 * n + 1));
    sum += term;
  }
  return sum;
}

static double cosine(double x) { return sine(x + PI / 2); }

static double arcsine(double x) { /* Newton's steps from a close start */
  double y = x < 0.7 ? x : PI / 2 - __builtin_sqrt(2 * (1 - x > 0 ? 1 - x : 0));
  for (int n = 0; n < 6; n++) {
    double slope = cosine(y);
    if (slope < 1e-9) break;
    y -= (sine(y) - x) / slope;
  }
  return y;
}

EPOCHAL_EXPORT(distance) {
  const double *lat1 = arguments[0].data, *lon1 = arguments[1].data;
  const double *lat2 = arguments[2].data, *lon2 = arguments[3].data;
  double *km = result->data;
  for (int32_t row = 0; row < result->length; row++) {
    double a = lat1[row] * (PI / 180), b = lat2[row] * (PI / 180);
    double u = sine((b - a) / 2), v = sine((lon2[row] - lon1[row]) * (PI / 360));
    double h = u * u + cosine(a) * cosine(b) * v * v;
    km[row] = 2 * EARTH_KM * arcsine(__builtin_sqrt(h > 1 ? 1 : h));
  }
  return EPOCHAL_DONE;
}

typedef struct {
  double sum;
  int64_t count;
} mean_state;

EPOCHAL_EXPORT(mean_update) {
  mean_state *state = arguments[0].data;
  const double *values = arguments[1].data;
  for (int32_t row = 0; row < arguments[1].length; row++) state->sum += values[row];
  state->count += arguments[1].length;
  return EPOCHAL_DONE;
}

EPOCHAL_EXPORT(mean_merge) {
  mean_state *state = arguments[0].data;
  const mean_state *other = arguments[1].data;
  state->sum += other->sum;
  state->count += other->count;
  return EPOCHAL_DONE;
}

EPOCHAL_EXPORT(mean_evaluate) {
  const mean_state *state = arguments[0].data;
  if (state->count == 0)
    epochal_set_null(result, 0);
  else
    *(double *)result->data = state->sum / (double)state->count;
  return EPOCHAL_DONE;
}
