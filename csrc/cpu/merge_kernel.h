// What the neighbourhood merge kernels of one instruction set offer to the driver in merge.cpp.
#pragma once

#include <cstdint>

#include "interface.h"

#include "../merge.h"

namespace arta {

struct MergeKernels {
  // Output of places begin..end-1. Returns whether all rows were in range.
  bool (*forward)(const ArtaMerge&, void* out, int64_t begin, int64_t end);
  // grad_weights of places begin..end-1. Returns whether all rows were in range.
  bool (*backward_weights)(const ArtaMerge&, const void* grad_out, void* grad_weights,
                           int64_t begin, int64_t end);
  // grad_feats of rows begin..end-1. The (place, neighbour) pairs in which row v occurs are
  // pairs[first[v]:first[v + 1]].
  void (*backward_feats)(const ArtaMerge&, const void* grad_out, void* grad_feats,
                         const int64_t* first, const int64_t* pairs, int64_t begin, int64_t end);
};

}  // namespace arta
