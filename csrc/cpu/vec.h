// Eight numbers at a time, with the compiler's own vector types: the same source serves every
// instruction set. `real` is float, or double with ARTA_DOUBLE.
//
// Everything here and in the kernels has internal linkage and uses no inline function of the
// standard library: the same source is compiled for several instruction sets, and the linker
// would otherwise keep one copy, maybe of the wrong set, for all.
#pragma once

#include <cstdint>

#define ARTA_INLINE static inline __attribute__((always_inline))
#define ARTA_MEMBER inline __attribute__((always_inline))

#if defined(__clang__) || __GNUC__ >= 12
#define ARTA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ARTA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (PartMask){__VA_ARGS__})
#endif

namespace {

#ifdef ARTA_DOUBLE
using real = double;
using mask = int64_t;
#else
using real = float;
using mask = int32_t;
#endif

// A vector is made of as many parts as it takes registers: compilers take a type that is wider
// than the registers apart into single numbers.
#if defined(__AVX__)
#define ARTA_REGISTER 32
#else
#define ARTA_REGISTER 16
#endif

constexpr int LANES = 8;
constexpr int PART_LANES = ARTA_REGISTER / static_cast<int>(sizeof(real));
constexpr int PARTS = LANES / PART_LANES;

typedef real Part __attribute__((vector_size(ARTA_REGISTER)));
typedef mask PartMask __attribute__((vector_size(ARTA_REGISTER)));

struct Vec {
  Part part[PARTS];
  ARTA_MEMBER real operator[](int lane) const { return part[lane / PART_LANES][lane % PART_LANES]; }
};

#define ARTA_EACH_PART(expression)                               \
  Vec result;                                                    \
  for (int p = 0; p < PARTS; ++p) result.part[p] = (expression); \
  return result

ARTA_INLINE Vec operator+(Vec a, Vec b) { ARTA_EACH_PART(a.part[p] + b.part[p]); }
ARTA_INLINE Vec operator-(Vec a, Vec b) { ARTA_EACH_PART(a.part[p] - b.part[p]); }
ARTA_INLINE Vec operator*(Vec a, Vec b) { ARTA_EACH_PART(a.part[p] * b.part[p]); }
ARTA_INLINE Vec operator+(Vec a, real b) { ARTA_EACH_PART(a.part[p] + b); }
ARTA_INLINE Vec operator-(Vec a, real b) { ARTA_EACH_PART(a.part[p] - b); }
ARTA_INLINE Vec operator*(Vec a, real b) { ARTA_EACH_PART(a.part[p] * b); }
ARTA_INLINE Vec operator*(real a, Vec b) { ARTA_EACH_PART(a * b.part[p]); }
ARTA_INLINE Vec operator/(real a, Vec b) { ARTA_EACH_PART(a / b.part[p]); }
ARTA_INLINE Vec operator/(Vec a, Vec b) { ARTA_EACH_PART(a.part[p] / b.part[p]); }
ARTA_INLINE Vec& operator+=(Vec& a, Vec b) { return a = a + b; }

ARTA_INLINE Vec splat(real x) { ARTA_EACH_PART(Part{} + x); }

ARTA_INLINE Vec maximum(Vec a, Vec b) {
  ARTA_EACH_PART(a.part[p] > b.part[p] ? a.part[p] : b.part[p]);
}

ARTA_INLINE Vec minimum(Vec a, Vec b) {
  ARTA_EACH_PART(a.part[p] < b.part[p] ? a.part[p] : b.part[p]);
}

ARTA_INLINE Vec load(const real* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

ARTA_INLINE void store(real* to, Vec v) { __builtin_memcpy(to, &v, sizeof(v)); }

ARTA_INLINE Vec load_some(const real* from, int count) {
  real lane[LANES] = {};
  for (int i = 0; i < count; ++i) lane[i] = from[i];
  return load(lane);
}

// `v` in the first `count` lanes, `other` in the rest.
ARTA_INLINE Vec keep_first(Vec v, int count, real other) {
  real lane[LANES];
  store(lane, v);
  for (int i = count; i < LANES; ++i) lane[i] = other;
  return load(lane);
}

ARTA_INLINE real horizontal_sum(Vec v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

ARTA_INLINE real larger(real a, real b) { return a > b ? a : b; }

ARTA_INLINE real horizontal_max(Vec v) {
  return larger(larger(larger(v[0], v[4]), larger(v[2], v[6])),
                larger(larger(v[1], v[5]), larger(v[3], v[7])));
}

#if defined(ARTA_DOUBLE)

// Lane i of the result is the sum of all lanes of v[i].
ARTA_INLINE Vec sums_of(const Vec (&v)[LANES]) {
  real lane[LANES];
  for (int i = 0; i < LANES; ++i) lane[i] = horizontal_sum(v[i]);
  return load(lane);
}

// Eight pairs of integers taken apart, less an offset.
ARTA_INLINE void split_pairs(const int32_t* pairs, int32_t x0, int32_t y0, Vec& x, Vec& y) {
  real even[LANES], odd[LANES];
  for (int i = 0; i < LANES; ++i) {
    even[i] = static_cast<real>(pairs[2 * i] - x0);
    odd[i] = static_cast<real>(pairs[2 * i + 1] - y0);
  }
  x = load(even);
  y = load(odd);
}

#else

#if ARTA_REGISTER == 32
#define ARTA_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ARTA_ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define ARTA_EVEN 0, 2, 4, 6
#define ARTA_ODD 1, 3, 5, 7
#endif

ARTA_INLINE Vec sums_of(const Vec (&v)[LANES]) {
  Vec result;
#if ARTA_REGISTER == 32
  Part pair[4], quad[2];
  for (int i = 0; i < 4; ++i) {
    const Part a = v[2 * i].part[0], b = v[2 * i + 1].part[0];
    pair[i] = ARTA_SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13) +
              ARTA_SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 2; ++i) {
    const Part a = pair[2 * i], b = pair[2 * i + 1];
    quad[i] = ARTA_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
              ARTA_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  result.part[0] = ARTA_SHUFFLE(quad[0], quad[1], 0, 1, 2, 3, 8, 9, 10, 11) +
                   ARTA_SHUFFLE(quad[0], quad[1], 4, 5, 6, 7, 12, 13, 14, 15);
#else
  for (int half = 0; half < 2; ++half) {
    Part pair[2];
    for (int i = 0; i < 2; ++i) {
      const Vec &first = v[4 * half + 2 * i], &second = v[4 * half + 2 * i + 1];
      const Part a = first.part[0] + first.part[1], b = second.part[0] + second.part[1];
      pair[i] = ARTA_SHUFFLE(a, b, 0, 4, 1, 5) + ARTA_SHUFFLE(a, b, 2, 6, 3, 7);
    }
    result.part[half] = ARTA_SHUFFLE(pair[0], pair[1], 0, 1, 4, 5) +
                        ARTA_SHUFFLE(pair[0], pair[1], 2, 3, 6, 7);
  }
#endif
  return result;
}

ARTA_INLINE void split_pairs(const int32_t* pairs, int32_t x0, int32_t y0, Vec& x, Vec& y) {
  for (int p = 0; p < PARTS; ++p) {
    PartMask a, b;
    __builtin_memcpy(&a, pairs + 2 * p * PART_LANES, sizeof(a));
    __builtin_memcpy(&b, pairs + (2 * p + 1) * PART_LANES, sizeof(b));
    x.part[p] = __builtin_convertvector(ARTA_SHUFFLE(a, b, ARTA_EVEN) - x0, Part);
    y.part[p] = __builtin_convertvector(ARTA_SHUFFLE(a, b, ARTA_ODD) - y0, Part);
  }
}

#endif

ARTA_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
ARTA_INLINE double square_root(double x) { return __builtin_sqrt(x); }
ARTA_INLINE float logarithm(float x) { return __builtin_logf(x); }
ARTA_INLINE double logarithm(double x) { return __builtin_log(x); }

ARTA_INLINE Vec square_root(Vec v) {
  alignas(sizeof(Vec)) real lane[LANES];
  store(lane, v);
  for (int i = 0; i < LANES; ++i) lane[i] = square_root(lane[i]);
  return load(lane);
}

// exp(x) of vectors V of any width, with masks M of the same; for x <= 88 in single precision,
// about 1 unit in the last place, 0 below -87.
template <class V, class M>
ARTA_INLINE V exponential_lanes(V x) {
#ifdef ARTA_DOUBLE
  for (unsigned i = 0; i < sizeof(V) / sizeof(real); ++i) x[i] = __builtin_exp(x[i]);
  return x;
#else
  // x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by its Taylor series to r^7.
  constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const V z = x * 1.44269504f + ROUND;
  const V n = z - ROUND;
  // ln 2 in two parts, the first exact in few bits, so that n * ln 2 loses nothing.
  const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V y = r * (1.0f / 5040) + (1.0f / 720);
  y = y * r + (1.0f / 120);
  y = y * r + (1.0f / 24);
  y = y * r + (1.0f / 6);
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  M bits;
  __builtin_memcpy(&bits, &z, sizeof(bits));
  bits = (bits + 127) << 23;
  V power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return x < -87.0f ? V{} : y * power;
#endif
}

ARTA_INLINE Part exponential_of(Part x) { return exponential_lanes<Part, PartMask>(x); }

#ifdef ARTA_DOUBLE

ARTA_INLINE Part logarithm_of(Part x) {
  for (int i = 0; i < PART_LANES; ++i) x[i] = __builtin_log(x[i]);
  return x;
}

// Bounds within which the exponential neither overflows nor becomes 0.
constexpr real LOWEST_EXPONENT = -700, HIGHEST_EXPONENT = 700;

#else

// log(x) for normal x > 0, about 1 unit in the last place; a large negative number for 0; what is
// not a number stays so.
// x = 2^n m with sqrt(1/2) <= m < sqrt(2); log(m) = 2 artanh((m - 1) / (m + 1)) by its series.
ARTA_INLINE Part logarithm_of(Part x) {
  PartMask bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const PartMask n = (bits - 0x3f3504f3) >> 23;
  bits -= n << 23;
  Part m;
  __builtin_memcpy(&m, &bits, sizeof(m));
  const Part f = m - 1.0f;
  const Part s = f / (m + 1.0f), z = s * s;
  Part y = z * (1.0f / 9) + (1.0f / 7);
  y = y * z + (1.0f / 5);
  y = y * z + (1.0f / 3);
  // 2 s = f - s f: what is left of the series is small beside f.
  const Part whole = __builtin_convertvector(n, Part);
  const Part small = 2.0f * s * z * y - s * f;
  const Part log = whole * 0.693359375f + (f + (small - whole * 2.12194440e-4f));
  return x == x ? log : x;
}

constexpr real LOWEST_EXPONENT = -87, HIGHEST_EXPONENT = 88;

#endif

ARTA_INLINE Vec logarithm(Vec x) { ARTA_EACH_PART(logarithm_of(x.part[p])); }
ARTA_INLINE Vec exponential(Vec x) { ARTA_EACH_PART(exponential_of(x.part[p])); }
ARTA_INLINE real exponential(real x) { return exponential_of(Part{} + x)[0]; }

}  // namespace
