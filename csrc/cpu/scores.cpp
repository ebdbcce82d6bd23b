// Class scores of pixels: shares rows of pixels among threads.
#include "dispatch.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"
#include "scores_kernel.h"

using arta::ScoreKernels;

ARTA_KERNELS(ScoreKernels, arta_scores)

ARTA_API int arta_class_scores(const ArtaScores* problem, void* out) {
  const ArtaScores& p = *problem;
  const ScoreKernels& kernels = arta_scores_kernels(p.is_double);
  const int64_t size = p.is_double ? sizeof(double) : sizeof(float);
  const int64_t per_image = kernels.packed(p) * size;
  const auto weights = arta::get<char>(per_image * p.images);
  const int64_t parts = p.images * p.height;
  const int64_t workers = arta::workers_for(parts, p.threads);
  const arta::Workers scratch(static_cast<size_t>(kernels.scratch(p)), workers);
  if (!weights || scratch.failed()) return ARTA_NO_MEMORY;
  arta::prefer_large_pages(out, static_cast<size_t>(p.images * p.classes * p.height * p.width * size));
  for (int64_t image = 0; image < p.images; ++image)
    kernels.pack(p, weights.get() + image * per_image, image);
  auto row = [&](int64_t worker, int64_t part) {
    const int64_t image = part / p.height;
    kernels.row(p, weights.get() + image * per_image, out, image, part % p.height,
                scratch[worker]);
  };
  arta::parallel(parts, p.threads, row);
  return 0;
}
