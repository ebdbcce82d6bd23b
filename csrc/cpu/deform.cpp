// Point deformable attention: shares the kernels' work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "deform_kernel.h"
#include "dispatch.h"
#include "guard.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"

using arta::DeformKernels;

ARTA_KERNELS(DeformKernels, arta_deform)

namespace {

constexpr int64_t QUERIES_PER_PART = 64;

// Cells that single precision counts one by one.
constexpr int64_t MOST_CELLS = int64_t{1} << 24;

// Whether kernels can count these sizes.
bool fits(const ArtaDeform& p) {
  return p.values >= 0 && p.queries >= 0 && p.images >= 0 && arta::is_size(p.heads) &&
         arta::is_size(p.dim) && p.rows >= 0 && p.rows <= MOST_CELLS && p.columns >= 0 &&
         p.columns <= MOST_CELLS && arta::is_size(p.levels) && arta::is_size(p.points) &&
         arta::is_size(p.k) && arta::is_size(arta::product(p.levels, p.points, p.k + 8)) &&
         arta::product(p.values, p.heads, p.dim, 8) >= 0 &&
         arta::product(p.queries, p.heads, p.dim) >= 0;
}

int forward(const ArtaDeform& p, void* out) {
  if (!fits(p)) return ARTA_BAD_SIZE;
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
int backward(const ArtaDeform& p, const ArtaDeformGrad& grad) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (!p.queries || !p.heads || !p.levels || !p.points) {
    // No samples, and any number of what has none.
    const size_t item = arta::is_double(p.run) ? sizeof(double) : sizeof(float);
    const size_t bytes = static_cast<size_t>(p.values * p.heads * p.dim) * item;
    if (bytes) std::memset(grad.grad_value, 0, bytes);
    std::memset(grad.grad_power, 0, item);
    return 0;
  }
  const DeformKernels& kernels = arta_deform_kernels(p.run);
  const arta::Workers scratch(kernels.scratch_bytes(p), arta::workers_for(p.heads, p.run.threads));
  const auto power = arta::get<double>(p.heads);
  if (scratch.failed() || !power) return ARTA_NO_MEMORY;
  std::fill(power.get(), power.get() + p.heads, 0.0);
  std::atomic<bool> valid{true};
  auto job = [&](int64_t worker, int64_t head) {
    if (!kernels.backward(p, grad, head, &power[head], scratch[worker])) valid = false;
  };
  arta::parallel(p.heads, p.run.threads, job);
  double sum = 0;
  for (int64_t head = 0; head < p.heads; ++head) sum += power[head];
  if (arta::is_double(p.run))
    *static_cast<double*>(grad.grad_power) = sum;
  else
    *static_cast<float*>(grad.grad_power) = static_cast<float>(sum);
  return valid ? 0 : ARTA_BAD_INDEX;
}

}  // namespace

ARTA_INTERFACE(point_deform_attention, 2)

// `out` (Q, H, dim).
ARTA_API int arta_point_deform_attention(const ArtaDeform* problem, void* out) {
  return arta::guarded([&] { return forward(*problem, out); });
}

ARTA_API int arta_point_deform_attention_backward(const ArtaDeform* problem,
                                                  const ArtaDeformGrad* grad) {
  return arta::guarded([&] { return backward(*problem, *grad); });
}
