// What the kernels of cluster attention share.
#pragma once

#include "common.cuh"

#include "../attention.h"

extern "C" {

// What the forward pass leaves and the backward pass returns.
struct ArtaAttentionGrad {
  const void* grad_out;      // real (T, H, dim)
  const void* out;           // real (T, H, dim), of the forward pass
  const float* lse;          // (T, H), of the forward pass
  const int64_t* first;      // (K + 1,) where the rows that attend to a cluster begin
  const int32_t* attending;  // those rows, by cluster
  float* delta;              // (T, H), room for grad_out times out
  void* grad_q;              // real (T, H, dim)
  void* grad_kv;             // real (T, H, 2, dim)
  float* sums;               // (arta_attention_parts, H, 6 + 2 dim): parameters' gradients, in
                             // parts: bias_weight, bias_bias, blank_k, blank_v
};

}  // extern "C"

namespace arta {

// Distances and directions of a row as seen from a token.
struct Geometry {
  float dx, dy, distance, sine, cosine;

  __device__ __forceinline__ Geometry(int2 row, int2 token)
      : dx(static_cast<float>(row.x - token.x)), dy(static_cast<float>(row.y - token.y)) {
    distance = sqrtf(dx * dx + dy * dy);
    const float inverse = 1.0f / fmaxf(distance, 1e-6f);
    sine = dy * inverse;
    cosine = dx * inverse;
  }

  // Adds to the sums of a bias' gradient: five features, and 1.
  __device__ __forceinline__ void add(float step, float (&sums)[6]) const {
    sums[0] += step * dx;
    sums[1] += step * dy;
    sums[2] += step * distance;
    sums[3] += step * sine;
    sums[4] += step * cosine;
    sums[5] += step;
  }
};

// The relative position bias of one head.
struct Bias {
  float weight[5], bias;

  __device__ __forceinline__ Bias(const ArtaAttention& p, int head) {
#pragma unroll
    for (int f = 0; f < 5; ++f) weight[f] = p.bias_weight[head * 5 + f];
    bias = p.bias_bias[head];
  }

  __device__ __forceinline__ float operator()(const Geometry& g) const {
    return bias + g.dx * weight[0] + g.dy * weight[1] + g.distance * weight[2] +
           g.sine * weight[3] + g.cosine * weight[4];
  }
};

// A warp's share of the work: W tokens in HEADS heads. Groups of L lanes hold one head of R
// tokens each, at most MOST, N channels a lane.
template <class T, int L, int MOST = static_cast<int>(sizeof(T))>
struct Layout {
  static constexpr int N = 16 / sizeof(T);
  static constexpr int GROUPS = 32 / L;
  static constexpr int HEADS = 2;
  static constexpr int SETS = GROUPS / HEADS;
  // As many tokens as the registers hold, and as Union can tell apart.
  static constexpr int R = 8 / SETS < MOST ? 8 / SETS : MOST;
  static constexpr int W = SETS * R;
};

// Clusters that any of a warp's tokens attend to, each one once, so that a tile is loaded once
// for all of them.
template <int W>
class Union {
 public:
  __device__ __forceinline__ Union(const ArtaAttention& p, int64_t first, int lane)
      : width_(static_cast<int>(p.num_neighbors)) {
    const int entries = W * width_;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int entry = i * 32 + lane;
      const int64_t row = first + entry / width_;
      int64_t cluster = -1;
      if (entry < entries && row < p.total) cluster = p.neighbors[row * width_ + entry % width_];
      waiting_[i] = cluster >= 0 && cluster < p.clusters ? static_cast<int>(cluster) : -1;
    }
  }

  // The next cluster, or -1; afterwards `attends` tells which tokens attend to it.
  __device__ __forceinline__ int next() {
    const unsigned low = __ballot_sync(WARP, waiting_[0] >= 0);
    const unsigned high = __ballot_sync(WARP, waiting_[1] >= 0);
    if (!(low | high)) return -1;
    const int cluster = low ? __shfl_sync(WARP, waiting_[0], __ffs(low) - 1)
                            : __shfl_sync(WARP, waiting_[1], __ffs(high) - 1);
    const bool a = waiting_[0] == cluster, b = waiting_[1] == cluster;
    members_ = __ballot_sync(WARP, a) |
               static_cast<unsigned long long>(__ballot_sync(WARP, b)) << 32;
    if (a) waiting_[0] = -1;
    if (b) waiting_[1] = -1;
    return cluster;
  }

  __device__ __forceinline__ bool attends(int token) const {
    return (members_ >> (token * width_)) & ((1ull << width_) - 1);
  }

 private:
  int width_;
  int waiting_[2];
  unsigned long long members_ = 0;
};

// Most neighbours of a token: entries of W tokens fit two registers a lane.
constexpr int64_t MOST_NEIGHBORS = 8;

// Channels of a tile's rows that one lane holds. Rows beyond the last repeat it.
template <class T, int N>
struct TileRows {
  Pack<T, N> row[TILE];

  __device__ __forceinline__ void load_from(const T* first, int64_t stride, int count,
                                            bool active) {
#pragma unroll
    for (int i = 0; i < TILE; ++i)
      if (active)
        row[i] = load<T, N>(first + (i < count ? i : count - 1) * stride);
      else
#pragma unroll
        for (int c = 0; c < N; ++c) row[i].number[c] = from_float<T>(0.0f);
  }

  // Products with a vector of which every lane holds N channels; sums are left to the group.
  __device__ __forceinline__ void products(const float (&x)[N], float (&s)[TILE]) const {
#pragma unroll
    for (int i = 0; i < TILE; ++i) {
      s[i] = 0;
#pragma unroll
      for (int c = 0; c < N; ++c) s[i] += x[c] * row[i][c];
    }
  }
};

template <class T, int N>
__device__ __forceinline__ void load_channels(const T* from, bool active, float (&to)[N]) {
#pragma unroll
  for (int c = 0; c < N; ++c) to[c] = 0;
  if (!active) return;
  const Pack<T, N> pack = load<T, N>(from);
#pragma unroll
  for (int c = 0; c < N; ++c) to[c] = pack[c];
}

template <int N>
__device__ __forceinline__ float product(const float (&a)[N], const float (&b)[N]) {
  float sum = 0;
#pragma unroll
  for (int c = 0; c < N; ++c) sum += a[c] * b[c];
  return sum;
}

// Rows begin..end-1 of a cluster, cut where they do not fit.
__device__ __forceinline__ void rows_of(const ArtaAttention& p, int cluster, int64_t& begin,
                                        int64_t& end) {
  begin = p.start[cluster];
  end = p.start[cluster + 1];
  if (end > begin + p.cluster_size) end = begin + p.cluster_size;
  if (begin < 0 || begin > p.total || end > p.total) end = begin;
}

// Lanes for `dim` channels, n of them a lane: 4, 8 or 16, or 0 if the kernels do not have that.
template <class T>
int lanes_for(int64_t dim, int n = 16 / static_cast<int>(sizeof(T))) {
  if (dim < 1 || dim % (16 / static_cast<int>(sizeof(T))) || dim > 64) return 0;
  return dim <= 4 * n ? 4 : dim <= 8 * n ? 8 : 16;
}

}  // namespace arta
