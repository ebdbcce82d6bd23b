// Neighbourhood merge: shares the kernels' work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "dispatch.h"
#include "interface.h"
#include "memory.h"
#include "merge_kernel.h"
#include "parallel.h"
#include "reverse_index.h"

using arta::MergeKernels;

ARTA_KERNELS(MergeKernels, arta_merge)

namespace {

constexpr int64_t PLACES_PER_PART = 128;

// Calls `job(begin, end)` for all of 0..count-1.
template <class Job>
void each_part(int64_t count, int64_t threads, const Job& job) {
  auto part_of = [&](int64_t, int64_t part) {
    const int64_t begin = part * PLACES_PER_PART;
    job(begin, std::min(begin + PLACES_PER_PART, count));
  };
  arta::parallel(arta::parts_of(count, PLACES_PER_PART), threads, part_of);
}

}  // namespace

ARTA_INTERFACE(neighborhood_merge, 1)

// `out` (T, M, C); in the backward pass `grad_feats` (V, C) and `grad_weights` (T, k, M).
ARTA_API int arta_neighborhood_merge(const ArtaMerge* problem, void* out) {
  const ArtaMerge& p = *problem;
  const MergeKernels& kernels = arta_merge_kernels(p.run);
  std::atomic<bool> valid{true};
  each_part(p.places, p.run.threads, [&](int64_t begin, int64_t end) {
    if (!kernels.forward(p, out, begin, end)) valid = false;
  });
  return valid ? 0 : ARTA_BAD_INDEX;
}

ARTA_API int arta_neighborhood_merge_backward(const ArtaMerge* problem, const void* grad_out,
                                              void* grad_feats, void* grad_weights) {
  const ArtaMerge& p = *problem;
  const MergeKernels& kernels = arta_merge_kernels(p.run);
  arta::ReverseIndex<int64_t> pairs;
  const auto row = [&](int64_t i) { return p.rows[i]; };
  if (!pairs.build(p.places * p.k, 1, p.values, p.run.threads, row)) return ARTA_NO_MEMORY;
  std::atomic<bool> valid{true};
  each_part(p.places, p.run.threads, [&](int64_t begin, int64_t end) {
    if (!kernels.backward_weights(p, grad_out, grad_weights, begin, end)) valid = false;
  });
  each_part(p.values, p.run.threads, [&](int64_t begin, int64_t end) {
    kernels.backward_feats(p, grad_out, grad_feats, pairs.first.get(), pairs.items.get(), begin,
                           end);
  });
  return valid ? 0 : ARTA_BAD_INDEX;
}
