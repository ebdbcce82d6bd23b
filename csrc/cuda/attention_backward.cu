// Cluster attention, backward: queries and parameters by rows, keys and values by clusters. No
// atomics: every sum has one owner and one order, so that results repeat exactly.
#include "attention.cuh"

namespace {

using namespace arta;

constexpr int THREADS = 128;
constexpr int PARTS = 1024;  // shares of the tokens, each with its own sums of the parameters

// Half types take more registers to convert.
template <class T, int L>
using RowsLayout = Layout<T, L, sizeof(T) == 4 ? 4 : 1>;

template <class T, int L>
__global__ void __launch_bounds__(THREADS, 2)
    attention_backward_rows_kernel(const ArtaAttention p, const ArtaAttentionGrad g) {
  using Own = RowsLayout<T, L>;
  constexpr int N = Own::N, R = Own::R, KEPT = Dealt<L>::KEPT;
  // A half type's rounded output makes delta wrong by a little, the same for all pairs of a token.
  // Their steps nearly cancel in the biases' gradients, which therefore take that back again.
  constexpr bool ROUNDED = sizeof(T) < sizeof(float);
  const int lane = threadIdx.x % 32, inside = lane % L, group = lane / L;
  const int64_t warp = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / 32;
  const int heads = static_cast<int>(p.heads), dim = static_cast<int>(p.dim);
  const int head_sets = (heads + Own::HEADS - 1) / Own::HEADS;
  const int64_t part = warp / head_sets;
  if (part >= PARTS) return;
  int head = static_cast<int>(warp % head_sets) * Own::HEADS + group % Own::HEADS;
  const bool idle = head >= heads;  // computes along, but writes nothing
  if (idle) head = heads - 1;
  const int token = group / Own::HEADS * R;
  const bool active = inside * N < dim;
  const int channel = active ? inside * N : 0;

  const T* kv = static_cast<const T*>(p.kv) + head * 2 * dim + channel;
  const int64_t kv_stride = 2 * p.heads * p.dim;
  const int2* xy = reinterpret_cast<const int2*>(p.xy);
  const Bias bias(p, head);
  const float scale = rsqrtf(static_cast<float>(dim));
  const float clamp = static_cast<float>(p.blank_clamp);
  float bias_sums[6] = {}, blank_k_sums[N] = {}, blank_v_sums[N] = {};

  for (int64_t first = part * Own::W; first < p.total; first += PARTS * Own::W) {
    float query[R][N], grad[R][N], sum[R][N], lse[R], delta[R];
    float exact[R], weights[R][6] = {};  // of ROUNDED: delta, and weights times features
    int2 place[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const bool exists = first + token + r < p.total;
      const int64_t row = exists ? first + token + r : p.total - 1;
      const int64_t at = (row * heads + head) * dim + channel;
      float key[N], value[N], out[N];
      load_channels<float, N>(p.blank_k + head * dim + channel, active, key);
      load_channels<float, N>(p.blank_v + head * dim + channel, active, value);
      load_channels<T, N>(static_cast<const T*>(p.q) + at, active, query[r]);
      load_channels<T, N>(static_cast<const T*>(g.grad_out) + at, active && exists, grad[r]);
      load_channels<T, N>(static_cast<const T*>(g.out) + at, active, out);
      place[r] = xy[row];
      // A token that is not there has no weights.
      lse[r] = exists ? g.lse[row * heads + head] : INFINITY;
      delta[r] = group_sum<L>(product(grad[r], out));
#pragma unroll
      for (int c = 0; c < N; ++c) query[r][c] *= scale;
      const float logit = group_sum<L>(product(query[r], key));
      const float held = fminf(fmaxf(logit, -clamp), clamp);
      const float weight = __expf(held - lse[r]);
      // A logit that the clamp holds does not move.
      const float along = group_sum<L>(product(grad[r], value)) - delta[r];
      const float step = held == logit ? weight * along : 0.0f;
      exact[r] = inside == 0 ? weight * (along + delta[r]) : 0.0f;
#pragma unroll
      for (int c = 0; c < N; ++c) {
        sum[r][c] = step * key[c];
        blank_k_sums[c] += step * query[r][c];
        blank_v_sums[c] += weight * grad[r][c];
      }
    }

    Union<Own::W> clusters(p, first, lane);
    for (int cluster; (cluster = clusters.next()) >= 0;) {
      int64_t begin, end;
      rows_of(p, cluster, begin, end);
      for (; begin < end; begin += TILE) {
        const int count = static_cast<int>(min(end - begin, static_cast<int64_t>(TILE)));
        TileRows<T, N> keys, values;
        keys.load_from(kv + begin * kv_stride, kv_stride, count, active);
        values.load_from(kv + begin * kv_stride + dim, kv_stride, count, active);
        const int kept = Dealt<L>::first_kept(inside);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          float s[TILE], along[TILE];
          keys.products(query[r], s);
          Dealt<L>::sum(s, inside);
          values.products(grad[r], along);
          Dealt<L>::sum(along, inside);
          const bool attends = clusters.attends(token + r);
#pragma unroll
          for (int i = 0; i < KEPT; ++i) {
            const Geometry geometry(xy[begin + min(kept + i, count - 1)], place[r]);
            const bool counts = attends && kept + i < count;
            const float weight = counts ? __expf(s[i] + bias(geometry) - lse[r]) : 0.0f;
            s[i] = weight * (along[i] - delta[r]);
            // Where several lanes keep one row, the first one counts it.
            const bool first_lane = inside % Dealt<L>::LANES_PER_ROW == 0;
            geometry.add(first_lane ? s[i] : 0.0f, bias_sums);
            if (ROUNDED && first_lane) {
              geometry.add(weight, weights[r]);
              exact[r] += weight * along[i];
            }
          }
#pragma unroll
          for (int i = 0; i < TILE; ++i) {
            const float step = __shfl_sync(WARP, s[i % KEPT], Dealt<L>::lane_of(i), L);
#pragma unroll
            for (int c = 0; c < N; ++c) sum[r][c] += step * keys.row[i][c];
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t row = first + token + r;
      if (ROUNDED) {
        exact[r] = group_sum<L>(exact[r]);
#pragma unroll
        for (int f = 0; f < 6; ++f) bias_sums[f] += (delta[r] - exact[r]) * weights[r][f];
        delta[r] = exact[r];
      }
      if (row < p.total && !idle && inside == 0) g.delta[row * heads + head] = delta[r];
#pragma unroll
      for (int c = 0; c < N; ++c) sum[r][c] *= scale;
      if (row < p.total && !idle && active)
        store<T, N>(static_cast<T*>(g.grad_q) + (row * heads + head) * dim + channel, sum[r]);
    }
  }

  // Over the sets of tokens of the warp, and biases over the lanes of a group too.
#pragma unroll
  for (int step = L * Own::HEADS; step < 32; step *= 2) {
#pragma unroll
    for (int f = 0; f < 6; ++f) bias_sums[f] += __shfl_xor_sync(WARP, bias_sums[f], step);
#pragma unroll
    for (int c = 0; c < N; ++c) {
      blank_k_sums[c] += __shfl_xor_sync(WARP, blank_k_sums[c], step);
      blank_v_sums[c] += __shfl_xor_sync(WARP, blank_v_sums[c], step);
    }
  }
#pragma unroll
  for (int f = 0; f < 6; ++f) bias_sums[f] = group_sum<L>(bias_sums[f]);
  if (idle || group >= Own::HEADS) return;
  float* to = g.sums + (part * heads + head) * (6 + 2 * dim);
  if (inside == 0)
#pragma unroll
    for (int f = 0; f < 6; ++f) to[f] = bias_sums[f];
  if (active)
#pragma unroll
    for (int c = 0; c < N; ++c) {
      to[6 + channel + c] = blank_k_sums[c];
      to[6 + dim + channel + c] = blank_v_sums[c];
    }
}

// A warp has one tile of a cluster in two heads; its sets take turns at the rows that attend.
template <class T, int L>
__global__ void __launch_bounds__(THREADS)
    attention_backward_clusters_kernel(const ArtaAttention p, const ArtaAttentionGrad g) {
  constexpr int N = 4, HEADS = 2, SETS = 32 / L / HEADS, KEPT = Dealt<L>::KEPT;
  const int lane = threadIdx.x % 32, inside = lane % L, group = lane / L;
  const int64_t warp = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / 32;
  const int heads = static_cast<int>(p.heads), dim = static_cast<int>(p.dim);
  const int head_sets = (heads + HEADS - 1) / HEADS;
  const int tiles = static_cast<int>((p.cluster_size + TILE - 1) / TILE);
  const int64_t cluster = warp / head_sets / tiles;
  if (cluster >= p.clusters) return;
  int head = static_cast<int>(warp % head_sets) * HEADS + group % HEADS;
  const bool idle = head >= heads;
  if (idle) head = heads - 1;
  const bool active = inside * N < dim;
  const int channel = active ? inside * N : 0;
  int64_t begin, end;
  rows_of(p, static_cast<int>(cluster), begin, end);
  begin += warp / head_sets % tiles * TILE;
  if (begin >= end) return;
  const int count = static_cast<int>(min(end - begin, static_cast<int64_t>(TILE)));

  const int64_t kv_stride = 2 * p.heads * p.dim;
  const T* kv = static_cast<const T*>(p.kv) + begin * kv_stride + head * 2 * dim + channel;
  const int2* xy = reinterpret_cast<const int2*>(p.xy);
  const Bias bias(p, head);
  const float scale = rsqrtf(static_cast<float>(dim));
  TileRows<T, N> keys, values;
  keys.load_from(kv, kv_stride, count, active);
  values.load_from(kv + dim, kv_stride, count, active);
  const int kept = Dealt<L>::first_kept(inside);
  int2 near[KEPT];
#pragma unroll
  for (int i = 0; i < KEPT; ++i) near[i] = xy[begin + min(kept + i, count - 1)];
  float grad_k[TILE][N] = {}, grad_v[TILE][N] = {};

  const int64_t last = g.first[cluster + 1];
  for (int64_t at = g.first[cluster]; at < last; at += SETS) {
    const bool exists = at + group / HEADS < last;
    const int64_t row = g.attending[exists ? at + group / HEADS : at];
    float query[N], grad[N], s[TILE], along[TILE];
    const int64_t place = (row * heads + head) * dim + channel;
    load_channels<T, N>(static_cast<const T*>(p.q) + place, active, query);
    load_channels<T, N>(static_cast<const T*>(g.grad_out) + place, active, grad);
    const float lse = exists ? g.lse[row * heads + head] : INFINITY;
    const float delta = g.delta[row * heads + head];
#pragma unroll
    for (int c = 0; c < N; ++c) query[c] *= scale;
    keys.products(query, s);
    Dealt<L>::sum(s, inside);
    values.products(grad, along);
    Dealt<L>::sum(along, inside);
#pragma unroll
    for (int i = 0; i < KEPT; ++i) {
      s[i] = __expf(s[i] + bias(Geometry(near[i], xy[row])) - lse);
      along[i] = s[i] * (along[i] - delta);
    }
#pragma unroll
    for (int i = 0; i < TILE; ++i) {
      const float weight = __shfl_sync(WARP, s[i % KEPT], Dealt<L>::lane_of(i), L);
      const float step = __shfl_sync(WARP, along[i % KEPT], Dealt<L>::lane_of(i), L);
#pragma unroll
      for (int c = 0; c < N; ++c) {
        grad_v[i][c] += weight * grad[c];
        grad_k[i][c] += step * query[c];
      }
    }
  }

  T* to = static_cast<T*>(g.grad_kv) + begin * kv_stride + head * 2 * dim + channel;
#pragma unroll
  for (int i = 0; i < TILE; ++i) {
#pragma unroll
    for (int step = L * HEADS; step < 32; step *= 2)
#pragma unroll
      for (int c = 0; c < N; ++c) {
        grad_k[i][c] += __shfl_xor_sync(WARP, grad_k[i][c], step);
        grad_v[i][c] += __shfl_xor_sync(WARP, grad_v[i][c], step);
      }
    if (i < count && active && !idle && group < HEADS) {
      store<T, N>(to + i * kv_stride, grad_k[i]);
      store<T, N>(to + i * kv_stride + dim, grad_v[i]);
    }
  }
}

template <class T, int L>
int launch_rows(const ArtaAttention& p, const ArtaAttentionGrad& g) {
  using Own = RowsLayout<T, L>;
  const int64_t warps = (p.heads + Own::HEADS - 1) / Own::HEADS * PARTS;
  ARTA_LAUNCH((attention_backward_rows_kernel<T, L>), blocks_for(warps, THREADS / 32), THREADS, 0, p.run.stream, p, g);
  return status();
}

template <class T, int L>
int launch_clusters(const ArtaAttention& p, const ArtaAttentionGrad& g) {
  const int64_t tiles = (p.cluster_size + TILE - 1) / TILE;
  const int64_t warps = p.clusters * tiles * ((p.heads + 1) / 2);
  ARTA_LAUNCH((attention_backward_clusters_kernel<T, L>), blocks_for(warps, THREADS / 32), THREADS, 0, p.run.stream, p, g);
  return status();
}

}  // namespace

// In how many parts the backward pass of cluster attention sums the parameters' gradients.
ARTA_API int64_t arta_attention_parts() { return PARTS; }

ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad) try {
  const ArtaAttention& p = *problem;
  const ArtaAttentionGrad& g = *grad;
  if (p.num_neighbors > MOST_NEIGHBORS) return ARTA_CUDA_UNSUPPORTED;
  if (p.heads == 0) return 0;
  return with_type(p.run.type, [&](auto number) {
    using T = decltype(number);
    int code = ARTA_CUDA_UNSUPPORTED;
    switch (lanes_for<T>(p.dim)) {
      case 4: code = launch_rows<T, 4>(p, g); break;
      case 8: code = launch_rows<T, 8>(p, g); break;
      case 16: code = launch_rows<T, 16>(p, g); break;
    }
    if (code || p.total == 0 || p.clusters == 0) return code;
    switch (lanes_for<T>(p.dim, 4)) {
      case 4: return launch_clusters<T, 4>(p, g);
      case 8: return launch_clusters<T, 8>(p, g);
      case 16: return launch_clusters<T, 16>(p, g);
    }
    return ARTA_CUDA_UNSUPPORTED;
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}
