// What the class score kernels of one instruction set offer to the driver in scores.cpp.
#pragma once

#include <cstdint>

#include "interface.h"

namespace arta {

struct ScoreKernels {
  // Bytes of scratch that a worker needs.
  int64_t (*scratch)(const ArtaScores&);
  // Scores of all classes in one row of pixels of one image. `packed` is the image's part of
  // what `pack` wrote.
  void (*row)(const ArtaScores&, const void* packed, void* out, int64_t image, int64_t y,
              void* scratch);
  // How many numbers `pack` writes for an image.
  int64_t (*packed)(const ArtaScores&);
  // Class probabilities of one image in the order in which `row` reads them.
  void (*pack)(const ArtaScores&, void* to, int64_t image);
};

}  // namespace arta
