// What the attention kernels of one instruction set offer to the driver in attention.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "interface.h"

#include "../attention.h"

extern "C" {

// What the forward pass leaves and the backward pass returns.
struct ArtaAttentionGrad {
  const void* grad_out;        // real (T, H, dim)
  const void* out;             // real (T, H, dim), of the forward pass
  const void* lse;             // real (T, H), of the forward pass
  void* grad_q;                // real (T, H, dim)
  void* grad_kv;               // real (T, H, 2, dim)
  void* grad_bias_weight;      // real (H, 5)
  void* grad_bias_bias;        // real (H,)
  void* grad_blank_k;          // real (H, dim)
  void* grad_blank_v;          // real (H, dim)
};

}  // extern "C"

namespace arta {

// Where the gradients of the parameters of one head lie in a part's sums.
struct HeadSums {
  static constexpr int64_t WEIGHT = 0, BIAS = 5, BLANK = 6;  // then blank_k and blank_v, dim each
  static int64_t size(int64_t dim) { return BLANK + 2 * dim; }
};

struct AttentionKernels {
  // Bytes of scratch that one worker needs for any of the functions.
  size_t (*scratch_bytes)(const ArtaAttention&);
  // Output and lse of rows begin..end-1. Returns whether all neighbours were in range.
  bool (*forward)(const ArtaAttention&, void* out, void* lse, int64_t begin, int64_t end,
                  void* scratch);
  // grad_q and `delta` (T, H) of rows begin..end-1; adds to `sums`, (H, HeadSums::size) doubles.
  // Returns whether all neighbours were in range.
  bool (*backward_rows)(const ArtaAttention&, const ArtaAttentionGrad&, void* delta, double* sums,
                        int64_t begin, int64_t end, void* scratch);
  // grad_kv of the rows of clusters begin..end-1. The rows that attend to cluster c are
  // attending[first[c]:first[c + 1]].
  void (*backward_clusters)(const ArtaAttention&, const ArtaAttentionGrad&, const void* delta,
                            const int64_t* first, const int32_t* attending, int64_t begin,
                            int64_t end, void* scratch);
};

}  // namespace arta
