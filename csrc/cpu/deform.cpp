// Point deformable attention: shares the kernels' work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "deform_kernel.h"
#include "dispatch.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"

using arta::DeformKernels;

ARTA_KERNELS(DeformKernels, arta_deform)

namespace {

constexpr int64_t QUERIES_PER_PART = 64;

}  // namespace

ARTA_INTERFACE(point_deform_attention, 1)

// `out` (Q, H, dim).
ARTA_API int arta_point_deform_attention(const ArtaDeform* problem, void* out) {
  const ArtaDeform& p = *problem;
  const DeformKernels& kernels = arta_deform_kernels(p.run);
  const int64_t parts = arta::parts_of(p.queries, QUERIES_PER_PART);
  const arta::Workers scratch(kernels.scratch_bytes(p), arta::workers_for(parts, p.run.threads));
  if (scratch.failed()) return ARTA_NO_MEMORY;
  std::atomic<bool> valid{true};
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * QUERIES_PER_PART;
    const int64_t end = std::min(begin + QUERIES_PER_PART, p.queries);
    if (!kernels.forward(p, out, begin, end, scratch[worker])) valid = false;
  };
  arta::parallel(parts, p.run.threads, job);
  return valid ? 0 : ARTA_BAD_INDEX;
}

// A head's gradients are its own, so heads are what threads take: every sum has one order, and
// neither atomics nor an index from tokens to samples is needed.
ARTA_API int arta_point_deform_attention_backward(const ArtaDeform* problem,
                                                  const ArtaDeformGrad* grad) {
  const ArtaDeform& p = *problem;
  const DeformKernels& kernels = arta_deform_kernels(p.run);
  const arta::Workers scratch(kernels.scratch_bytes(p), arta::workers_for(p.heads, p.run.threads));
  const auto power = arta::get<double>(p.heads);
  if (scratch.failed() || !power) return ARTA_NO_MEMORY;
  std::fill(power.get(), power.get() + p.heads, 0.0);
  std::atomic<bool> valid{true};
  auto job = [&](int64_t worker, int64_t head) {
    if (!kernels.backward(p, *grad, head, &power[head], scratch[worker])) valid = false;
  };
  arta::parallel(p.heads, p.run.threads, job);
  double sum = 0;
  for (int64_t head = 0; head < p.heads; ++head) sum += power[head];
  if (arta::is_double(p.run))
    *static_cast<double*>(grad->grad_power) = sum;
  else
    *static_cast<float*>(grad->grad_power) = static_cast<float>(sum);
  return valid ? 0 : ARTA_BAD_INDEX;
}
