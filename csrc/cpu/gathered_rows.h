// Weighted sums of rows that lie anywhere. See rows.h for NV.
#pragma once

#include "vec.h"

namespace {

// Sum of `weights` (count,) times the rows given by `index`, for G vectors of columns.
template <int G>
ARTA_INLINE void gather_columns(const int64_t* index, int count, const real* weights,
                                const real* rows, int64_t stride, real* to) {
  // Two sets of sums, so that an addition need not wait for the one before.
  Vec even[G] = {}, odd[G] = {};
  int i = 0;
  for (; i + 2 <= count; i += 2) {
    const real *a = rows + index[i] * stride, *b = rows + index[i + 1] * stride;
    for (int g = 0; g < G; ++g) {
      even[g] += weights[i] * load(a + g * LANES);
      odd[g] += weights[i + 1] * load(b + g * LANES);
    }
  }
  if (i < count)
    for (int g = 0; g < G; ++g)
      even[g] += weights[i] * load(rows + index[i] * stride + g * LANES);
  for (int g = 0; g < G; ++g) store(to + g * LANES, even[g] + odd[g]);
}

// The same for all columns.
template <int NV>
ARTA_INLINE void sum_gathered(const int64_t* index, int count, const real* weights,
                              const real* rows, int64_t stride, int dim, real* to) {
  if (NV) return gather_columns<NV ? NV : 1>(index, count, weights, rows, stride, to);
  int j = 0;
  for (; j + 4 * LANES <= dim; j += 4 * LANES)
    gather_columns<4>(index, count, weights, rows + j, stride, to + j);
  for (; j + LANES <= dim; j += LANES)
    gather_columns<1>(index, count, weights, rows + j, stride, to + j);
  for (; j < dim; ++j) {
    real sum = 0;
    for (int i = 0; i < count; ++i) sum += weights[i] * rows[index[i] * stride + j];
    to[j] = sum;
  }
}

}  // namespace
