// Cluster attention: picks the kernels for this machine and shares their work among threads.
#include <algorithm>
#include <cstdint>

#include "attention_kernel.h"
#include "dispatch.h"
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

}  // namespace

ARTA_INTERFACE(cluster_attention, 1)

// `out` (T, H, dim); `lse` (T, H), the logarithm of the sum of exponentials of all logits.
ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, void* lse) {
  const ArtaAttention& p = *problem;
  const AttentionKernels& kernels = arta_attention_kernels(p.run);
  const int64_t parts = parts_of(p.total, ROWS_PER_PART);
  const Workers scratch(kernels.scratch_bytes(p), arta::workers_for(parts, p.run.threads));
  if (scratch.failed()) return ARTA_NO_MEMORY;
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART;
    kernels.forward(p, out, lse, begin, std::min(begin + ROWS_PER_PART, p.total), scratch[worker]);
  };
  arta::parallel(parts, p.run.threads, job);
  return 0;
}

ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad) {
  const ArtaAttention& p = *problem;
  const AttentionKernels& kernels = arta_attention_kernels(p.run);
  const int64_t row_parts = parts_of(p.total, ROWS_PER_PART);
  const int64_t cluster_parts = parts_of(p.clusters, CLUSTERS_PER_PART);
  const int64_t sum_size = p.heads * arta::HeadSums::size(p.dim);

  const Workers scratch(kernels.scratch_bytes(p),
                        arta::workers_for(std::max(row_parts, cluster_parts), p.run.threads));
  const auto delta = get<char>(p.total * p.heads * (arta::is_double(p.run) ? 8 : 4));
  const auto sums = get<double>((row_parts + 1) * sum_size);
  arta::ReverseIndex<int32_t> attending;  // the rows that attend to every cluster
  if (scratch.failed() || !delta || !sums ||
      !attending.build(p.total * p.num_neighbors, p.num_neighbors, p.clusters, p.run.threads,
                       [&](int64_t i) { return p.neighbors[i]; }))
    return ARTA_NO_MEMORY;
  std::fill(sums.get(), sums.get() + (row_parts + 1) * sum_size, 0.0);

  auto rows = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART;
    kernels.backward_rows(p, *grad, delta.get(), sums.get() + part * sum_size, begin,
                          std::min(begin + ROWS_PER_PART, p.total), scratch[worker]);
  };
  arta::parallel(row_parts, p.run.threads, rows);

  auto clusters = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * CLUSTERS_PER_PART;
    kernels.backward_clusters(p, *grad, delta.get(), attending.first.get(), attending.items.get(),
                              begin, std::min(begin + CLUSTERS_PER_PART, p.clusters),
                              scratch[worker]);
  };
  arta::parallel(cluster_parts, p.run.threads, clusters);

  double* all = sums.get() + row_parts * sum_size;
  for (int64_t part = 0; part < row_parts; ++part)
    for (int64_t i = 0; i < sum_size; ++i) all[i] += sums[part * sum_size + i];
  if (arta::is_double(p.run))
    write_sums<double>(p, *grad, all);
  else
    write_sums<float>(p, *grad, all);
  return 0;
}
