/* Distances in kilometres, and the mean of them. epochal.h is what `epochal new --wasm c` writes:
 *   python -m ziglang cc -target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry \
 *     -I ../../src/epochal/cli/templates/wasm -o geo.wasm geo.c */
#include "epochal.h"

EPOCHAL_PLUGIN

#define PI 3.14159265358979323846
#define EARTH_KM 6371.0088

/* There is no C library, so the functions of an angle are here. */

/* Taylor's series, to 4e-14, after whole turns are taken off and the angle is mirrored. */
static double sine(double x) {
  x -= 2 * PI * __builtin_nearbyint(x / (2 * PI));
  if (x > PI / 2) x = PI - x;
  if (x < -PI / 2) x = -PI - x;
  double z = x * x;
  double sum = 1.0 / 355687428096000.0;
  sum = sum * z - 1.0 / 1307674368000.0;
  sum = sum * z + 1.0 / 6227020800.0;
  sum = sum * z - 1.0 / 39916800.0;
  sum = sum * z + 1.0 / 362880.0;
  sum = sum * z - 1.0 / 5040.0;
  sum = sum * z + 1.0 / 120.0;
  sum = sum * z - 1.0 / 6.0;
  return x + x * z * sum;
}

static double cosine(double x) { return sine(x + PI / 2); }

/* The rational function of Sun's fdlibm (e_asin.c) up to 0.5, and a half angle beyond. */
static double arcsine(double x) {
  int is_large = x > 0.5;
  double y = is_large ? __builtin_sqrt((1 - x) / 2) : x, z = y * y;
  double p = 3.47933107596021167570e-05;
  p = p * z + 7.91534994289814532176e-04;
  p = p * z - 4.00555345006794114027e-02;
  p = p * z + 2.01212532134862925881e-01;
  p = p * z - 3.25565818622400915405e-01;
  p = p * z + 1.66666666666666657415e-01;
  double q = 7.70381505559019352791e-02;
  q = q * z - 6.88283971605453293030e-01;
  q = q * z + 2.02094576023350569471e+00;
  q = q * z - 2.40339491173441421878e+00;
  double r = y + y * z * p / (q * z + 1);
  return is_large ? PI / 2 - 2 * r : r;
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
