// Point deformable attention: a group of L lanes has one query in one head.
#include "common.cuh"

#include "../deform.h"

extern "C" {

struct ArtaDeformGrad {
  const void* grad_out;      // real (Q, H, dim)
  float* grad_value;         // (V, H, dim), zero before; or null to leave it to arta_deform_return
  float* grad_location;      // (Q, H, L, P, 2)
  float* grad_weight;        // (Q, H, L, P)
  float* grad_power;         // (Q, H), in parts
  int32_t* rows;             // (Q, H, L, P, k) row of every pair, -1 for none
  float* shares;             // (Q, H, L, P, k) its weight
};

}  // extern "C"

namespace {

using namespace arta;

constexpr int THREADS = 128;

// A sample's place and its tokens.
struct Sample {
  const int64_t* near;
  float x, y;

  __device__ __forceinline__ Sample(const ArtaDeform& p, int64_t query, int head, int sample) {
    const int samples = static_cast<int>(p.levels * p.points);
    const float* place = p.location + ((query * p.heads + head) * samples + sample) * 2;
    x = place[0];
    y = place[1];
    const int64_t image = p.batch[query];
    const int64_t level = sample / p.points;
    near = nullptr;
    if (image >= 0 && image < p.images && p.rows > 0 && p.columns > 0)
      near = p.nearest + (((level * p.images + image) * p.rows + cell(y, p.rows)) * p.columns +
                          cell(x, p.columns)) * p.k;
  }

  // The nearest integer inside 0..count-1; what is not a number becomes 0.
  __device__ __forceinline__ static int64_t cell(float x, int64_t count) {
    return static_cast<int64_t>(fminf(fmaxf(rintf(x), 0.0f), static_cast<float>(count - 1)));
  }

  __device__ __forceinline__ int row(const ArtaDeform& p, int j) const {
    const int64_t row = near ? near[j] : -1;
    return row < p.values ? static_cast<int>(row) : -1;
  }
};

// A token as seen from a sample.
struct Pair {
  float dx, dy, squared, log, raised, inverse;

  __device__ __forceinline__ Pair(const ArtaDeform& p, const Sample& sample, int row) {
    dx = sample.x - p.centers[2 * row];
    dy = sample.y - p.centers[2 * row + 1];
    squared = dx * dx + dy * dy;
    const float floor = static_cast<float>(p.floor);
    // Unlike fmaxf, this keeps what is not a number.
    log = logf(squared < floor ? floor : squared);
    raised = expf(*p.power * log);
    inverse = 1.0f / (raised + static_cast<float>(p.eps));
  }
};

// Rows and interpolation weights of all pairs of the group; a lane has every L-th sample. With
// `weighted`, times the samples' weights.
template <int L>
__device__ __forceinline__ void find_shares(const ArtaDeform& p, int64_t query, int head,
                                            int inside, bool weighted, int* rows, float* shares) {
  const int samples = static_cast<int>(p.levels * p.points), k = static_cast<int>(p.k);
  for (int s = inside; s < samples; s += L) {
    const Sample sample(p, query, head, s);
    float total = static_cast<float>(p.eps);
    for (int j = 0; j < k; ++j) {
      const int row = sample.row(p, j);
      const float inverse = row < 0 ? 0.0f : Pair(p, sample, row).inverse;
      rows[s * k + j] = row;
      shares[s * k + j] = inverse;
      total += inverse;
    }
    float scale = total > 0 || total != total ? 1.0f / total : 0.0f;
    if (weighted) scale *= p.weight[(query * p.heads + head) * samples + s];
    for (int j = 0; j < k; ++j) shares[s * k + j] *= scale;
  }
  __syncwarp();
}

template <class T, int L>
__global__ void __launch_bounds__(THREADS) deform_forward_kernel(const ArtaDeform p, T* out) {
  constexpr int N = 16 / sizeof(T);
  ARTA_SHARED(shared);
  const int inside = threadIdx.x % L;
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS / L) + threadIdx.x / L;
  const bool exists = item < p.queries * p.heads;
  const int64_t query = exists ? item / p.heads : 0;
  const int head = exists ? static_cast<int>(item % p.heads) : 0;
  const int pairs = static_cast<int>(p.levels * p.points * p.k);
  float* shares = shared + threadIdx.x / L * 2 * pairs;
  int* rows = reinterpret_cast<int*>(shares + pairs);
  find_shares<L>(p, query, head, inside, true, rows, shares);

  const int dim = static_cast<int>(p.dim);
  if (!exists || inside * N >= dim) return;
  const int64_t stride = p.heads * p.dim;
  const int64_t channel = static_cast<int64_t>(head) * dim + inside * N;
  const T* value = static_cast<const T*>(p.value) + channel;
  float sum[N] = {};
#pragma unroll 4
  for (int i = 0; i < pairs; ++i) {
    const int row = rows[i];
    if (row < 0) continue;
    const Pack<T, N> numbers = load<T, N>(value + row * stride);
#pragma unroll
    for (int c = 0; c < N; ++c) sum[c] += shares[i] * numbers[c];
  }
  store<T, N>(out + query * stride + channel, sum);
}

template <class T, int L>
__global__ void __launch_bounds__(THREADS)
    deform_backward_kernel(const ArtaDeform p, const ArtaDeformGrad g) {
  constexpr int N = 16 / sizeof(T);
  ARTA_SHARED(shared);
  const int inside = threadIdx.x % L;
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS / L) + threadIdx.x / L;
  const bool exists = item < p.queries * p.heads;
  const int64_t query = exists ? item / p.heads : 0;
  const int head = exists ? static_cast<int>(item % p.heads) : 0;
  const int k = static_cast<int>(p.k), samples = static_cast<int>(p.levels * p.points);
  const int pairs = samples * k, dim = static_cast<int>(p.dim);
  float* shares = shared + threadIdx.x / L * 3 * pairs;
  int* rows = reinterpret_cast<int*>(shares + pairs);
  float* dots = shares + 2 * pairs;
  find_shares<L>(p, query, head, inside, false, rows, shares);

  const bool active = inside * N < dim;
  const int64_t stride = p.heads * p.dim;
  const int64_t channel = static_cast<int64_t>(head) * dim + (active ? inside * N : 0);
  const T* value = static_cast<const T*>(p.value) + channel;
  float grad[N] = {};
  if (active && exists) {
    const Pack<T, N> numbers =
        load<T, N>(static_cast<const T*>(g.grad_out) + query * stride + channel);
#pragma unroll
    for (int c = 0; c < N; ++c) grad[c] = numbers[c];
  }
  for (int first = 0; first < pairs; first += TILE) {
    float s[TILE];
#pragma unroll
    for (int i = 0; i < TILE; ++i) {
      const int row = first + i < pairs ? rows[first + i] : -1;
      s[i] = 0;
      if (row < 0 || !active) continue;
      const Pack<T, N> numbers = load<T, N>(value + row * stride);
#pragma unroll
      for (int c = 0; c < N; ++c) s[i] += grad[c] * numbers[c];
    }
    Dealt<L>::sum(s, inside);
    const int kept = first + Dealt<L>::first_kept(inside);
#pragma unroll
    for (int i = 0; i < Dealt<L>::KEPT; ++i)
      if (kept + i < pairs) dots[kept + i] = s[i];
  }
  __syncwarp();

  float grad_power = 0;
  const int64_t at = (query * p.heads + head) * samples;
  for (int s = inside; s < samples; s += L) {
    const Sample sample(p, query, head, s);
    const float* share = shares + s * k;
    const float* dot = dots + s * k;
    float total = static_cast<float>(p.eps), sum = 0, x = 0, y = 0;
    for (int j = 0; j < k; ++j) {
      const int row = rows[s * k + j];
      if (row >= 0) total += Pair(p, sample, row).inverse;
      sum += share[j] * dot[j];
    }
    const float inverse_total = total > 0 ? 1.0f / total : 0.0f;
    const float weight = exists ? p.weight[at + s] : 0.0f;
    for (int j = 0; j < k; ++j) {
      const int row = rows[s * k + j];
      if (row < 0) continue;
      const Pair pair(p, sample, row);
      // How much more this token's product is than the mean: by differences, as nearly all may
      // cancel. The shares lack eps / total to 1.
      float above = dot[j] * static_cast<float>(p.eps) * inverse_total;
      for (int i = 0; i < k; ++i) above += share[i] * (dot[j] - dot[i]);
      const float grad_log =
          -weight * inverse_total * above * pair.inverse * pair.inverse * pair.raised;
      grad_power += grad_log * pair.log;
      // A distance at its lower bound does not move.
      if (pair.squared >= static_cast<float>(p.floor) && pair.squared > 0) {
        const float step = 2 * *p.power * grad_log / pair.squared;
        x += step * pair.dx;
        y += step * pair.dy;
      }
    }
    if (exists) {
      g.grad_weight[at + s] = sum;
      g.grad_location[2 * (at + s)] = x;
      g.grad_location[2 * (at + s) + 1] = y;
    }
  }
  grad_power = group_sum<L>(grad_power);
  if (!exists) return;
  if (inside == 0) g.grad_power[query * p.heads + head] = grad_power;
  for (int i = g.grad_value ? 0 : inside; i < pairs; i += g.grad_value ? 1 : L) {
    const float share = shares[i] * p.weight[at + i / k];
    if (!g.grad_value) {
      g.rows[at * k + i] = rows[i];
      g.shares[at * k + i] = share;
    } else if (rows[i] >= 0 && active) {
#pragma unroll
      for (int c = 0; c < N; ++c)
        atomicAdd(g.grad_value + rows[i] * stride + channel + c, share * grad[c]);
    }
  }
}

// The gradient of one value in one head, from all pairs that look at it.
template <class T, int L>
__global__ void __launch_bounds__(THREADS)
    deform_return_kernel(const ArtaDeform p, const ArtaDeformGrad g, const int64_t* first,
                         const int64_t* pairs, float* grad_value) {
  constexpr int N = 16 / sizeof(T);
  const int inside = threadIdx.x % L, dim = static_cast<int>(p.dim);
  const int64_t number = blockIdx.x * static_cast<int64_t>(THREADS / L) + threadIdx.x / L;
  if (number >= p.values * p.heads || inside * N >= dim) return;
  const int64_t each = p.levels * p.points * p.k;
  const T* from = static_cast<const T*>(g.grad_out) + inside * N;
  float sum[N] = {};
  for (int64_t i = first[number]; i < first[number + 1]; ++i) {
    const float share = g.shares[pairs[i]];
    const Pack<T, N> numbers = load<T, N>(from + pairs[i] / each * dim);
#pragma unroll
    for (int c = 0; c < N; ++c) sum[c] += share * numbers[c];
  }
#pragma unroll
  for (int c = 0; c < N; ++c) grad_value[number * dim + inside * N + c] = sum[c];
}

// Lanes for `dim` channels: 4, 8 or 16, or 0 if the kernels do not have that.
template <class T>
int lanes_for(int64_t dim) {
  constexpr int n = 16 / static_cast<int>(sizeof(T));
  if (dim < 1 || dim % n || dim > 16 * n) return 0;
  return dim <= 4 * n ? 4 : dim <= 8 * n ? 8 : 16;
}

// Calls `call(T{}, lanes)`, lanes a constant, for the problem's number type and channels.
template <class Call>
int with_lanes(const ArtaDeform& p, const Call& call) {
  return with_type(p.run.type, [&](auto number) {
    using T = decltype(number);
    switch (lanes_for<T>(p.dim)) {
      case 4: return call(number, std::integral_constant<int, 4>{});
      case 8: return call(number, std::integral_constant<int, 8>{});
      case 16: return call(number, std::integral_constant<int, 16>{});
    }
    return ARTA_CUDA_UNSUPPORTED;
  });
}

constexpr int64_t MOST_SHARED = 48 << 10;

}  // namespace

ARTA_INTERFACE(point_deform_attention, 1)

// `out` real (Q, H, dim).
ARTA_API int arta_point_deform_attention(const ArtaDeform* problem, void* out) try {
  const ArtaDeform& p = *problem;
  if (p.queries * p.heads == 0) return 0;
  return with_lanes(p, [&](auto number, auto lanes) {
    using T = decltype(number);
    constexpr int L = decltype(lanes)::value;
    const int64_t bytes = THREADS / L * 2 * 4 * p.levels * p.points * p.k;
    if (bytes > MOST_SHARED) return ARTA_CUDA_UNSUPPORTED;
    ARTA_LAUNCH((deform_forward_kernel<T, L>), blocks_for(p.queries * p.heads, THREADS / L),
                THREADS, static_cast<size_t>(bytes), p.run.stream, p, static_cast<T*>(out));
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}

// With grad_value, adds to it with atomics.
ARTA_API int arta_point_deform_attention_backward(const ArtaDeform* problem,
                                                  const ArtaDeformGrad* grad) try {
  const ArtaDeform& p = *problem;
  if (p.queries * p.heads == 0) return 0;
  return with_lanes(p, [&](auto number, auto lanes) {
    using T = decltype(number);
    constexpr int L = decltype(lanes)::value;
    const int64_t bytes = THREADS / L * 3 * 4 * p.levels * p.points * p.k;
    if (bytes > MOST_SHARED) return ARTA_CUDA_UNSUPPORTED;
    ARTA_LAUNCH((deform_backward_kernel<T, L>), blocks_for(p.queries * p.heads, THREADS / L),
                THREADS, static_cast<size_t>(bytes), p.run.stream, p, *grad);
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}

// grad_value without atomics: `pairs` are the places in `rows` of each (row, head), those of
// number i at first[i]:first[i + 1].
ARTA_API int arta_deform_return(const ArtaDeform* problem, const ArtaDeformGrad* grad,
                                const int64_t* first, const int64_t* pairs, float* grad_value) try {
  const ArtaDeform& p = *problem;
  if (p.values * p.heads == 0) return 0;
  return with_lanes(p, [&](auto number, auto lanes) {
    using T = decltype(number);
    constexpr int L = decltype(lanes)::value;
    ARTA_LAUNCH((deform_return_kernel<T, L>), blocks_for(p.values * p.heads, THREADS / L), THREADS,
                0, p.run.stream, p, *grad, first, pairs, grad_value);
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}
