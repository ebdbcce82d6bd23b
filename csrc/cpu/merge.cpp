// Neighbourhood merge: shares the kernels' work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "dispatch.h"
#include "guard.h"
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

bool fits(const ArtaMerge& p) {
  return p.values >= 0 && arta::product(p.places, p.k, p.sets) >= 0 &&
         arta::product(p.places, p.sets, p.dim) >= 0 && arta::product(p.values, p.dim) >= 0;
}

int forward(const ArtaMerge& p, void* out) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (!p.sets || !p.dim) return 0;
  const MergeKernels& kernels = arta_merge_kernels(p.run);
  std::atomic<bool> valid{true};
  each_part(p.places, p.run.threads, [&](int64_t begin, int64_t end) {
    if (!kernels.forward(p, out, begin, end)) valid = false;
  });
  return valid ? 0 : ARTA_BAD_INDEX;
}

int backward(const ArtaMerge& p, const void* grad_out, void* grad_feats, void* grad_weights) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  const MergeKernels& kernels = arta_merge_kernels(p.run);
  // Where there is nothing to write, there may be any number of it.
  const int64_t places = p.k && p.sets ? p.places : 0, values = p.dim ? p.values : 0;
  arta::ReverseIndex<int64_t> pairs;
  const auto row = [&](int64_t i) { return p.rows[i]; };
  if (!pairs.build(p.places * p.k, 1, values, p.run.threads, row)) return ARTA_NO_MEMORY;
  std::atomic<bool> valid{true};
  each_part(places, p.run.threads, [&](int64_t begin, int64_t end) {
    if (!kernels.backward_weights(p, grad_out, grad_weights, begin, end)) valid = false;
  });
  if (!valid) return ARTA_BAD_INDEX;
  each_part(values, p.run.threads, [&](int64_t begin, int64_t end) {
    kernels.backward_feats(p, grad_out, grad_feats, pairs.first.get(), pairs.items.get(), begin,
                           end);
  });
  return 0;
}

}  // namespace

ARTA_INTERFACE(neighborhood_merge, 2)

// `out` (T, M, C); in the backward pass `grad_feats` (V, C) and `grad_weights` (T, k, M).
ARTA_API int arta_neighborhood_merge(const ArtaMerge* problem, void* out) {
  return arta::guarded([&] { return forward(*problem, out); });
}

ARTA_API int arta_neighborhood_merge_backward(const ArtaMerge* problem, const void* grad_out,
                                              void* grad_feats, void* grad_weights) {
  return arta::guarded([&] { return backward(*problem, grad_out, grad_feats, grad_weights); });
}
