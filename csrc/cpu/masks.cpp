// Mask probabilities of pixels: shares queries among threads.
#include <cstdint>
#include <limits>

#include "dispatch.h"
#include "guard.h"
#include "interface.h"
#include "masks_kernel.h"
#include "memory.h"
#include "parallel.h"

using arta::MaskKernels;

ARTA_KERNELS(MaskKernels, arta_masks)

namespace {

// Whether the pixels are those of the cells, and kernels can count them.
bool fits(const ArtaMasks& p) {
  const auto covered = [&](int64_t cells) {
    const int64_t pixels = arta::product(cells, p.cell);
    return pixels < 0 ? std::numeric_limits<int64_t>::max() : pixels;
  };
  return p.queries >= 0 && p.cell >= 1 && arta::is_size(p.rows) && arta::is_size(p.columns) &&
         p.first >= 0 && p.height >= 0 && p.first <= covered(p.rows) &&
         p.height <= covered(p.rows) - p.first && arta::is_size(p.width) &&
         p.width <= covered(p.columns) && p.strips >= 1 && p.width % p.strips == 0 &&
         arta::product(p.queries, p.height, p.width) >= 0;
}

int probabilities(const ArtaMasks& p, void* out) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (!p.queries || !p.height || !p.width) return 0;
  const MaskKernels& kernels = arta_masks_kernels(p.run);
  const arta::Workers places(static_cast<size_t>(kernels.places_bytes(p)), 1);
  const arta::Workers scratch(static_cast<size_t>(kernels.scratch_bytes(p)),
                              arta::workers_for(p.queries, p.run.threads));
  if (places.failed() || scratch.failed()) return ARTA_NO_MEMORY;
  kernels.places(p, places[0]);
  auto job = [&](int64_t worker, int64_t query) {
    kernels.query(p, places[0], out, query, scratch[worker]);
  };
  arta::parallel(p.queries, p.run.threads, job);
  return 0;
}

}  // namespace

ARTA_INTERFACE(class_scores, 2)

// `out` (height, strips, Q, width / strips).
ARTA_API int arta_mask_probabilities(const ArtaMasks* problem, void* out) {
  return arta::guarded([&] { return probabilities(*problem, out); });
}
