// Neighbourhood merge: a thread has 16 bytes of a place's or a row's channels.
#include "common.cuh"

#include "../merge.h"

namespace {

using namespace arta;

constexpr int THREADS = 256;
constexpr int SETS = 4;  // handled together, so that a neighbour's row is read once for them

template <class T, int N>
__global__ void __launch_bounds__(THREADS) merge_forward_kernel(const ArtaMerge p, T* out) {
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  const int64_t columns = p.dim / N, place = item / columns;
  if (place >= p.places) return;
  const int64_t channel = item % columns * N;
  const int64_t* rows = p.rows + place * p.k;
  const T* feats = static_cast<const T*>(p.feats) + channel;
  const T* weights = static_cast<const T*>(p.weights) + place * p.k * p.sets;
  for (int64_t first = 0; first < p.sets; first += SETS) {
    float sum[SETS][N] = {};
    for (int64_t j = 0; j < p.k; ++j) {
      const int64_t row = rows[j];
      if (row < 0 || row >= p.values) continue;
      const Pack<T, N> numbers = load<T, N>(feats + row * p.dim);
#pragma unroll
      for (int m = 0; m < SETS; ++m) {
        if (first + m >= p.sets) continue;
        const float weight = to_float(weights[j * p.sets + first + m]);
#pragma unroll
        for (int c = 0; c < N; ++c) sum[m][c] += weight * numbers[c];
      }
    }
#pragma unroll
    for (int m = 0; m < SETS; ++m)
      if (first + m < p.sets)
        store<T, N>(out + (place * p.sets + first + m) * p.dim + channel, sum[m]);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    merge_feats_kernel(const ArtaMerge p, const T* grad_out, const int64_t* first,
                       const int64_t* pairs, T* grad_feats) {
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  const int64_t columns = p.dim / N, row = item / columns;
  if (row >= p.values) return;
  const int64_t channel = item % columns * N;
  const T* weights = static_cast<const T*>(p.weights);
  float sum[N] = {};
  for (int64_t i = first[row]; i < first[row + 1]; ++i) {
    const int64_t pair = pairs[i], place = pair / p.k;
    for (int64_t m = 0; m < p.sets; ++m) {
      const float weight = to_float(weights[pair * p.sets + m]);
      const Pack<T, N> numbers =
          load<T, N>(grad_out + (place * p.sets + m) * p.dim + channel);
#pragma unroll
      for (int c = 0; c < N; ++c) sum[c] += weight * numbers[c];
    }
  }
  store<T, N>(grad_feats + row * p.dim + channel, sum);
}

// A warp has one neighbour of one place.
template <class T, int N>
__global__ void __launch_bounds__(THREADS)
    merge_weights_kernel(const ArtaMerge p, const T* grad_out, T* grad_weights) {
  const int64_t pair = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (pair >= p.places * p.k) return;
  const int64_t row = p.rows[pair], place = pair / p.k;
  const bool exists = row >= 0 && row < p.values;
  const T* feats = static_cast<const T*>(p.feats) + (exists ? row : 0) * p.dim;
  for (int64_t m = 0; m < p.sets; ++m) {
    const T* grad = grad_out + (place * p.sets + m) * p.dim;
    float sum = 0;
    if (exists)
      for (int64_t channel = lane * N; channel < p.dim; channel += 32 * N) {
        const Pack<T, N> a = load<T, N>(feats + channel), b = load<T, N>(grad + channel);
#pragma unroll
        for (int c = 0; c < N; ++c) sum += a[c] * b[c];
      }
    sum = group_sum<32>(sum);
    if (lane == 0) grad_weights[pair * p.sets + m] = from_float<T>(sum);
  }
}

// Calls `call(T{}, N)` with N numbers of 16 bytes where the channels divide into them, else 1.
template <class Call>
int with_width(const ArtaMerge& p, const Call& call) {
  return with_type(p.run.type, [&](auto number) {
    constexpr int N = 16 / sizeof(number);
    return p.dim % N ? call(number, std::integral_constant<int, 1>{})
                     : call(number, std::integral_constant<int, N>{});
  });
}

}  // namespace

ARTA_INTERFACE(neighborhood_merge, 1)

// `out` real (T, M, C); in the backward pass `grad_feats` real (V, C), `grad_weights` real
// (T, k, M), and the pairs (place, neighbour) in which row v occurs: pairs[first[v]:first[v + 1]].
ARTA_API int arta_neighborhood_merge(const ArtaMerge* problem, void* out) try {
  const ArtaMerge& p = *problem;
  if (p.places * p.dim == 0) return 0;
  return with_width(p, [&](auto number, auto width) {
    using T = decltype(number);
    constexpr int N = decltype(width)::value;
    ARTA_LAUNCH((merge_forward_kernel<T, N>), blocks_for(p.places * p.dim / N, THREADS), THREADS, 0,
                p.run.stream, p, static_cast<T*>(out));
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}

ARTA_API int arta_neighborhood_merge_backward(const ArtaMerge* problem, const void* grad_out,
                                              const int64_t* first, const int64_t* pairs,
                                              void* grad_feats, void* grad_weights) try {
  const ArtaMerge& p = *problem;
  return with_width(p, [&](auto number, auto width) {
    using T = decltype(number);
    constexpr int N = decltype(width)::value;
    const T* grad = static_cast<const T*>(grad_out);
    if (p.values && p.dim)
      ARTA_LAUNCH((merge_feats_kernel<T, N>), blocks_for(p.values * p.dim / N, THREADS), THREADS, 0,
                  p.run.stream, p, grad, first, pairs, static_cast<T*>(grad_feats));
    if (p.places && p.k)
      ARTA_LAUNCH((merge_weights_kernel<T, N>), blocks_for(p.places * p.k, THREADS / 32), THREADS,
                  0, p.run.stream, p, grad, static_cast<T*>(grad_weights));
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}
