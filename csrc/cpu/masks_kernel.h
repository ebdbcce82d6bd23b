// What the mask kernels of one instruction set offer to the driver in masks.cpp.
#pragma once

#include <cstdint>

#include "interface.h"

namespace arta {

struct MaskKernels {
  // Bytes that `places` writes.
  int64_t (*places_bytes)(const ArtaMasks&);
  // Where the pixels of a row lie between cells, for all queries.
  void (*places)(const ArtaMasks&, void* to);
  // Bytes of scratch that a worker needs.
  int64_t (*scratch_bytes)(const ArtaMasks&);
  // Probabilities of one query in all pixels.
  void (*query)(const ArtaMasks&, void* places, void* out, int64_t query, void* scratch);
};

}  // namespace arta
