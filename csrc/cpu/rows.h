// Products of vectors with rows of matrices, for rows of any length.
//
// NV is the length in vectors of 8 where that is a constant (1 to 4), or 0 for any length `dim`.
#pragma once

#include "vec.h"

namespace {

// Up to eight consecutive rows.
struct Tile {
  int64_t row;
  int count;
};

template <int NV>
ARTA_INLINE real dot(const real* a, const real* b, int dim) {
  const int whole = NV ? NV : dim / LANES;
  Vec sum = {};
  for (int j = 0; j < whole; ++j) sum += load(a + j * LANES) * load(b + j * LANES);
  real result = horizontal_sum(sum);
  if (!NV)
    for (int j = whole * LANES; j < dim; ++j) result += a[j] * b[j];
  return result;
}

// Lane i of the result is `a` times row i.
template <int NV>
ARTA_INLINE Vec dots_of(const real* a, const real* const (&rows)[LANES], int dim) {
  Vec sum[LANES] = {};
  const int whole = NV ? NV : dim / LANES;
  for (int j = 0; j < whole; ++j) {
    const Vec x = load(a + j * LANES);
    for (int i = 0; i < LANES; ++i) sum[i] += x * load(rows[i] + j * LANES);
  }
  if (!NV && dim % LANES) {
    const int rest = dim % LANES;
    const Vec x = load_some(a + whole * LANES, rest);
    for (int i = 0; i < LANES; ++i) sum[i] += x * load_some(rows[i] + whole * LANES, rest);
  }
  return sums_of(sum);
}

// The same for rows that lie `stride` apart. Lanes beyond `count` repeat the last row.
template <int NV>
ARTA_INLINE Vec dots(const real* a, const real* rows, int64_t stride, int count, int dim) {
  const real* r[LANES];
  if (count == LANES)
    for (int i = 0; i < LANES; ++i) r[i] = rows + i * stride;
  else
    for (int i = 0; i < LANES; ++i) r[i] = rows + (i < count ? i : count - 1) * stride;
  return dots_of<NV>(a, r, dim);
}

// Sum over the rows of all tiles, `weights` (tiles, 8) times row, for G vectors of columns.
template <int G>
ARTA_INLINE void sum_columns(const Tile* tiles, int count, const real* weights, const real* rows,
                             int64_t stride, real* to) {
  // Two sets of sums, so that an addition need not wait for the one before.
  Vec even[G] = {}, odd[G] = {};
  for (int t = 0; t < count; ++t) {
    const real* r = rows + tiles[t].row * stride;
    const real* w = weights + t * LANES;
    int i = 0;
    for (; i + 2 <= tiles[t].count; i += 2, r += 2 * stride)
      for (int g = 0; g < G; ++g) {
        even[g] += w[i] * load(r + g * LANES);
        odd[g] += w[i + 1] * load(r + stride + g * LANES);
      }
    if (i < tiles[t].count)
      for (int g = 0; g < G; ++g) even[g] += w[i] * load(r + g * LANES);
  }
  for (int g = 0; g < G; ++g) store(to + g * LANES, even[g] + odd[g]);
}

// The same for all columns.
template <int NV>
ARTA_INLINE void sum_rows(const Tile* tiles, int count, const real* weights, const real* rows,
                          int64_t stride, int dim, real* to) {
  if (NV) return sum_columns<NV ? NV : 1>(tiles, count, weights, rows, stride, to);
  int j = 0;
  for (; j + 4 * LANES <= dim; j += 4 * LANES)
    sum_columns<4>(tiles, count, weights, rows + j, stride, to + j);
  for (; j + LANES <= dim; j += LANES)
    sum_columns<1>(tiles, count, weights, rows + j, stride, to + j);
  for (; j < dim; ++j) {
    real sum = 0;
    for (int t = 0; t < count; ++t)
      for (int i = 0; i < tiles[t].count; ++i)
        sum += weights[t * LANES + i] * rows[(tiles[t].row + i) * stride + j];
    to[j] = sum;
  }
}

// Adds to row i of `to`, for G vectors of columns, weights (count, 8)[.][i] times the rows of
// `from` given by `index`.
template <int G>
ARTA_INLINE void add_columns(const real* weights, const real* from, const int32_t* index,
                             int64_t from_stride, int count, real* to, int64_t to_stride,
                             int rows) {
  // As many sums as fit the registers.
  constexpr int R = G <= 2 ? 4 : 2;
  for (int first = 0; first < rows; first += R) {
    Vec sum[R][G] = {};
    for (int b = 0; b < count; ++b) {
      const real* r = from + index[b] * from_stride;
      const real* w = weights + b * LANES + first;
      for (int g = 0; g < G; ++g) {
        const Vec x = load(r + g * LANES);
        for (int i = 0; i < R; ++i) sum[i][g] += w[i] * x;
      }
    }
    for (int i = 0; i < R && first + i < rows; ++i)
      for (int g = 0; g < G; ++g) {
        real* at = to + (first + i) * to_stride + g * LANES;
        store(at, load(at) + sum[i][g]);
      }
  }
}

// The same for all columns.
template <int NV>
ARTA_INLINE void add_products(const real* weights, const real* from, const int32_t* index,
                              int64_t from_stride, int count, real* to, int64_t to_stride,
                              int rows, int dim) {
  if (NV)
    return add_columns<NV ? NV : 1>(weights, from, index, from_stride, count, to, to_stride, rows);
  int j = 0;
  for (; j + 4 * LANES <= dim; j += 4 * LANES)
    add_columns<4>(weights, from + j, index, from_stride, count, to + j, to_stride, rows);
  for (; j + LANES <= dim; j += LANES)
    add_columns<1>(weights, from + j, index, from_stride, count, to + j, to_stride, rows);
  for (; j < dim; ++j)
    for (int i = 0; i < rows; ++i) {
      real sum = 0;
      for (int b = 0; b < count; ++b)
        sum += weights[b * LANES + i] * from[index[b] * from_stride + j];
      to[i * to_stride + j] += sum;
    }
}

// to = scale * (a + x * b)
template <int NV>
ARTA_INLINE void write_sum(const real* a, real x, const real* b, real scale, int dim, real* to) {
  const int whole = NV ? NV : dim / LANES;
  for (int j = 0; j < whole; ++j)
    store(to + j * LANES, (load(a + j * LANES) + x * load(b + j * LANES)) * scale);
  if (!NV)
    for (int j = whole * LANES; j < dim; ++j) to[j] = (a[j] + x * b[j]) * scale;
}

// to += x * a
template <int NV>
ARTA_INLINE void add_scaled(real x, const real* a, int dim, real* to) {
  const int whole = NV ? NV : dim / LANES;
  for (int j = 0; j < whole; ++j)
    store(to + j * LANES, load(to + j * LANES) + x * load(a + j * LANES));
  if (!NV)
    for (int j = whole * LANES; j < dim; ++j) to[j] += x * a[j];
}

}  // namespace
