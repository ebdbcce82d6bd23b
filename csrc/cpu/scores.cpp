// Class scores of pixels: shares rows of pixels among threads.
#include <algorithm>
#include <cstdint>

#include "dispatch.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"
#include "scores_kernel.h"

using arta::ScoreKernels;

ARTA_KERNELS(ScoreKernels, arta_scores)

namespace {

// Rows of pixels of a part, a few rows of cells: what two of those share is computed once.
constexpr int64_t ROWS_PER_PART = 8;
// Of the output that gets its memory at a time.
constexpr int64_t BYTES_PER_STEP = int64_t{1} << 24;

}  // namespace

ARTA_API int arta_class_scores(const ArtaScores* problem, void* out) {
  const ArtaScores& p = *problem;
  const ScoreKernels& kernels = arta_scores_kernels(p.run);
  const int64_t size = arta::is_double(p.run) ? sizeof(double) : sizeof(float);
  const int64_t per_image = kernels.packed(p) * size;
  const auto weights = arta::get<char>(per_image * p.images);
  const int64_t per_height = arta::parts_of(p.height, ROWS_PER_PART);
  const int64_t parts = p.images * per_height;
  const arta::Workers scratch(static_cast<size_t>(kernels.scratch(p)),
                              arta::workers_for(parts, p.run.threads));
  if (!weights || scratch.failed()) return ARTA_NO_MEMORY;
  const int64_t bytes = p.images * p.classes * p.height * p.width * size;
  auto room = [&](int64_t, int64_t part) {
    const int64_t begin = part * BYTES_PER_STEP;
    arta::make_room(static_cast<char*>(out) + begin, std::min(BYTES_PER_STEP, bytes - begin));
  };
  arta::parallel(arta::parts_of(bytes, BYTES_PER_STEP), p.run.threads, room);
  for (int64_t image = 0; image < p.images; ++image)
    kernels.pack(p, weights.get() + image * per_image, image);
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t image = part / per_height, begin = part % per_height * ROWS_PER_PART;
    kernels.rows(p, weights.get() + image * per_image, out, image, begin,
                 std::min(begin + ROWS_PER_PART, p.height), scratch[worker]);
  };
  arta::parallel(parts, p.run.threads, job);
  return 0;
}
