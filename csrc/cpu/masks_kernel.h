// What the mask kernels of one instruction set offer to the driver in masks.cpp.
#pragma once

#include <cstdint>

#include "interface.h"

extern "C" {

// Mask probabilities of Q queries in rows of pixels of an image: the sigmoid of their logits, which
// are bilinear between the middles of cells.
struct ArtaMasks {
  const void* logits;          // real (Q, rows, columns)
  int64_t queries;             // Q
  int64_t rows;
  int64_t columns;
  int64_t cell;                // side of a cell in pixels
  int64_t first;               // row of pixels
  int64_t height;              // rows of pixels
  int64_t width;               // of the image in pixels, a multiple of strips
  int64_t strips;              // equal parts of a row of pixels
  ArtaRun run;
};

}  // extern "C"

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
