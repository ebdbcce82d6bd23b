// What the class score kernels of one instruction set offer to the driver in scores.cpp.
#pragma once

#include <cstdint>

#include "interface.h"

namespace arta {

struct ScoreKernels {
  // Bytes of scratch that a worker needs.
  int64_t (*scratch)(const ArtaScores&);
  // Scores of all classes in rows begin..end-1 of the pixels of one image. `packed` is what
  // `pack` wrote for it.
  void (*rows)(const ArtaScores&, const void* packed, void* out, int64_t image, int64_t begin,
               int64_t end, void* scratch);
  // How many numbers `pack` writes for an image.
  int64_t (*packed)(const ArtaScores&);
  // Class probabilities of one image in the order in which `rows` reads them.
  void (*pack)(const ArtaScores&, void* to, int64_t image);
};

}  // namespace arta
