// Cluster attention, forward: logits, bias, softmax and weighted sum in one pass over tiles.
#include "attention.cuh"

namespace {

using namespace arta;

constexpr int THREADS = 128;

template <class T, int L>
__global__ void __launch_bounds__(THREADS, 2)
    attention_forward_kernel(const ArtaAttention p, T* out, float* lse) {
  using Own = Layout<T, L>;
  constexpr int N = Own::N, R = Own::R;
  const int lane = threadIdx.x % 32, inside = lane % L, group = lane / L;
  const int64_t warp = (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x) / 32;
  const int heads = static_cast<int>(p.heads), dim = static_cast<int>(p.dim);
  const int head_sets = (heads + Own::HEADS - 1) / Own::HEADS;
  const int64_t first = warp / head_sets * Own::W;
  if (first >= p.total) return;
  int head = static_cast<int>(warp % head_sets) * Own::HEADS + group % Own::HEADS;
  const bool idle = head >= heads;  // computes along, but writes nothing
  if (idle) head = heads - 1;
  const int token = group / Own::HEADS * R;  // first one of the group, counted in the warp
  const bool active = inside * N < dim;
  const int channel = active ? inside * N : 0;

  const T* q = static_cast<const T*>(p.q);
  const T* kv = static_cast<const T*>(p.kv) + head * 2 * dim + channel;
  const int64_t kv_stride = 2 * p.heads * p.dim;
  const int2* xy = reinterpret_cast<const int2*>(p.xy);
  const Bias bias(p, head);
  const float scale = rsqrtf(static_cast<float>(dim));

  // The blank token comes first: it makes every maximum finite.
  float query[R][N], sum[R][N], most[R], all[R];
  int2 place[R];
  {
    float key[N], value[N];
    load_channels<float, N>(p.blank_k + head * dim + channel, active, key);
    load_channels<float, N>(p.blank_v + head * dim + channel, active, value);
    const float clamp = static_cast<float>(p.blank_clamp);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t row = min(first + token + r, p.total - 1);
      place[r] = xy[row];
      load_channels<T, N>(q + (row * heads + head) * dim + channel, active, query[r]);
#pragma unroll
      for (int c = 0; c < N; ++c) query[r][c] *= scale;
      most[r] = fminf(fmaxf(group_sum<L>(product(query[r], key)), -clamp), clamp);
      // Lanes sum their own rows' weights; the blank token is the first lane's.
      all[r] = inside == 0 ? 1.0f : 0.0f;
#pragma unroll
      for (int c = 0; c < N; ++c) sum[r][c] = value[c];
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
      constexpr int KEPT = Dealt<L>::KEPT;
      const int kept = Dealt<L>::first_kept(inside);
      int2 near[KEPT];
#pragma unroll
      for (int i = 0; i < KEPT; ++i) near[i] = xy[begin + min(kept + i, count - 1)];

#pragma unroll
      for (int r = 0; r < R; ++r) {
        float s[TILE];
        keys.products(query[r], s);
        Dealt<L>::sum(s, inside);
        const bool attends = clusters.attends(token + r);
        float highest = most[r];
#pragma unroll
        for (int i = 0; i < KEPT; ++i) {
          s[i] = attends && kept + i < count ? s[i] + bias(Geometry(near[i], place[r]))
                                             : -INFINITY;
          highest = fmaxf(highest, s[i]);
        }
        highest = group_max<L>(highest);
        const float shrink = __expf(most[r] - highest);
        most[r] = highest;
        all[r] *= shrink;
#pragma unroll
        for (int i = 0; i < KEPT; ++i) {
          s[i] = __expf(s[i] - highest);
          // Where several lanes keep one row, the first one counts it.
          if (inside % Dealt<L>::LANES_PER_ROW == 0) all[r] += s[i];
        }
#pragma unroll
        for (int c = 0; c < N; ++c) sum[r][c] *= shrink;
#pragma unroll
        for (int i = 0; i < TILE; ++i) {
          const float weight = __shfl_sync(WARP, s[i % KEPT], Dealt<L>::lane_of(i), L);
#pragma unroll
          for (int c = 0; c < N; ++c) sum[r][c] += weight * values.row[i][c];
        }
      }
    }
  }

#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int64_t row = first + token + r;
    const float total = group_sum<L>(all[r]);
    const float inverse = 1.0f / total;
#pragma unroll
    for (int c = 0; c < N; ++c) sum[r][c] *= inverse;
    if (row >= p.total || idle) continue;
    if (active) store<T, N>(out + (row * heads + head) * dim + channel, sum[r]);
    if (inside == 0) lse[row * heads + head] = most[r] + __logf(total);
  }
}

template <class T, int L>
int launch(const ArtaAttention& p, void* out, float* lse) {
  using Own = Layout<T, L>;
  const int64_t head_sets = (p.heads + Own::HEADS - 1) / Own::HEADS;
  const int64_t warps = (p.total + Own::W - 1) / Own::W * head_sets;
  ARTA_LAUNCH((attention_forward_kernel<T, L>), blocks_for(warps, THREADS / 32), THREADS, 0, p.run.stream, p, static_cast<T*>(out), lse);
  return status();
}

}  // namespace

ARTA_INTERFACE(cluster_attention, 1)

// `out` real (T, H, dim); `lse` (T, H), the logarithm of the sum of exponentials of all logits.
ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, float* lse) try {
  const ArtaAttention& p = *problem;
  if (p.num_neighbors > MOST_NEIGHBORS) return ARTA_CUDA_UNSUPPORTED;
  if (p.total == 0 || p.heads == 0) return 0;
  return with_type(p.run.type, [&](auto number) {
    using T = decltype(number);
    switch (lanes_for<T>(p.dim)) {
      case 4: return launch<T, 4>(p, out, lse);
      case 8: return launch<T, 8>(p, out, lse);
      case 16: return launch<T, 16>(p, out, lse);
    }
    return ARTA_CUDA_UNSUPPORTED;
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}
