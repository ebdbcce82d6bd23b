// Cluster attention: picks the kernels for this machine and shares their work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "attention_kernel.h"
#include "dispatch.h"
#include "guard.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"
#include "reverse_index.h"

using arta::AttentionKernels;
using arta::get;
using arta::parts_of;
using arta::Workers;

ARTA_KERNELS(AttentionKernels, arta_attention)

namespace {

// Sizes of the parts that threads take. They depend on no thread count, so that sums over parts,
// and with them the gradients, come out the same for any.
constexpr int64_t ROWS_PER_PART = 128;
constexpr int64_t CLUSTERS_PER_PART = 16;

// Coordinates are at most so far from 0, so that differences are numbers of 32 bits.
constexpr int64_t FARTHEST = int64_t{1} << 30;

// Whether kernels can count these sizes.
bool fits(const ArtaAttention& p) {
  if (p.total < 0 || p.clusters < 0 || p.cluster_size < 1) return false;
  return arta::is_size(p.total) && arta::is_size(p.clusters) && arta::is_size(p.cluster_size) &&
         arta::is_size(arta::product(p.num_neighbors, std::min(p.cluster_size, p.total) + 8)) &&
         arta::is_size(arta::product(p.heads, 2, p.dim)) && arta::is_size(p.heads) &&
         arta::is_size(p.dim) && p.dim >= 1;
}

// Whether every row is in one cluster, none is longer than it may be, and no coordinate is farther
// than it may be. Differences are those of unsigned numbers, which wrap without harm: from 0, no
// sum of short steps can come to the last row by a detour.
bool in_order(const ArtaAttention& p) {
  if (p.start[0] != 0 || p.start[p.clusters] != p.total) return false;
  bool valid = true;
  const uint64_t size = static_cast<uint64_t>(p.cluster_size);
  for (int64_t c = 0; c < p.clusters; ++c)
    valid &= static_cast<uint64_t>(p.start[c + 1]) - static_cast<uint64_t>(p.start[c]) <= size;
  for (int64_t i = 0; i < 2 * p.total; ++i)
    valid &= p.xy[i] >= -FARTHEST && p.xy[i] <= FARTHEST;
  return valid;
}

template <class T>
void write_sums(const ArtaAttention& p, const ArtaAttentionGrad& g, const double* sums) {
  for (int64_t h = 0; h < p.heads; ++h) {
    const double* from = sums + h * arta::HeadSums::size(p.dim);
    for (int64_t f = 0; f < 5; ++f)
      static_cast<T*>(g.grad_bias_weight)[h * 5 + f] = static_cast<T>(from[f]);
    static_cast<T*>(g.grad_bias_bias)[h] = static_cast<T>(from[arta::HeadSums::BIAS]);
    from += arta::HeadSums::BLANK;
    for (int64_t j = 0; j < p.dim; ++j) {
      static_cast<T*>(g.grad_blank_k)[h * p.dim + j] = static_cast<T>(from[j]);
      static_cast<T*>(g.grad_blank_v)[h * p.dim + j] = static_cast<T>(from[p.dim + j]);
    }
  }
}

int forward(const ArtaAttention& p, void* out, void* lse) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (!in_order(p)) return ARTA_BAD_INDEX;
  const AttentionKernels& kernels = arta_attention_kernels(p.run);
  const int64_t parts = parts_of(p.total, ROWS_PER_PART);
  const Workers scratch(kernels.scratch_bytes(p), arta::workers_for(parts, p.run.threads));
  if (scratch.failed()) return ARTA_NO_MEMORY;
  std::atomic<bool> valid{true};
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART, end = std::min(begin + ROWS_PER_PART, p.total);
    if (!kernels.forward(p, out, lse, begin, end, scratch[worker])) valid = false;
  };
  arta::parallel(parts, p.run.threads, job);
  return valid ? 0 : ARTA_BAD_INDEX;
}

int backward(const ArtaAttention& p, const ArtaAttentionGrad& grad) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (!in_order(p)) return ARTA_BAD_INDEX;
  const AttentionKernels& kernels = arta_attention_kernels(p.run);
  const int64_t row_parts = parts_of(p.total, ROWS_PER_PART);
  const int64_t cluster_parts = parts_of(p.clusters, CLUSTERS_PER_PART);
  const int64_t sum_size = p.heads * arta::HeadSums::size(p.dim);
  const int64_t all_sums = arta::product(row_parts + 1, sum_size);

  const Workers scratch(kernels.scratch_bytes(p),
                        arta::workers_for(std::max(row_parts, cluster_parts), p.run.threads));
  const auto delta = get<char>(arta::product(p.total, p.heads, arta::is_double(p.run) ? 8 : 4));
  const auto sums = get<double>(all_sums);
  arta::ReverseIndex<int32_t> attending;  // the rows that attend to every cluster
  if (scratch.failed() || !delta || !sums ||
      !attending.build(p.total * p.num_neighbors, p.num_neighbors, p.clusters, p.run.threads,
                       [&](int64_t i) { return p.neighbors[i]; }))
    return ARTA_NO_MEMORY;
  std::fill(sums.get(), sums.get() + all_sums, 0.0);

  std::atomic<bool> valid{true};
  auto rows = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART;
    if (!kernels.backward_rows(p, grad, delta.get(), sums.get() + part * sum_size, begin,
                               std::min(begin + ROWS_PER_PART, p.total), scratch[worker]))
      valid = false;
  };
  arta::parallel(row_parts, p.run.threads, rows);
  if (!valid) return ARTA_BAD_INDEX;

  auto clusters = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * CLUSTERS_PER_PART;
    kernels.backward_clusters(p, grad, delta.get(), attending.first.get(), attending.items.get(),
                              begin, std::min(begin + CLUSTERS_PER_PART, p.clusters),
                              scratch[worker]);
  };
  arta::parallel(cluster_parts, p.run.threads, clusters);

  double* all = sums.get() + row_parts * sum_size;
  for (int64_t part = 0; part < row_parts; ++part)
    for (int64_t i = 0; i < sum_size; ++i) all[i] += sums[part * sum_size + i];
  if (arta::is_double(p.run))
    write_sums<double>(p, grad, all);
  else
    write_sums<float>(p, grad, all);
  return 0;
}

}  // namespace

ARTA_INTERFACE(cluster_attention, 2)

// `out` (T, H, dim); `lse` (T, H), the logarithm of the sum of exponentials of all logits.
ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, void* lse) {
  return arta::guarded([&] { return forward(*problem, out, lse); });
}

ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad) {
  return arta::guarded([&] { return backward(*problem, *grad); });
}
