// Mask probabilities of pixels: shares queries among threads.
#include <cstdint>

#include "dispatch.h"
#include "interface.h"
#include "masks_kernel.h"
#include "memory.h"
#include "parallel.h"

using arta::MaskKernels;

ARTA_KERNELS(MaskKernels, arta_masks)

ARTA_INTERFACE(class_scores, 1)

// `out` (height, strips, Q, width / strips).
ARTA_API int arta_mask_probabilities(const ArtaMasks* problem, void* out) {
  const ArtaMasks& p = *problem;
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
