// What the deformable attention kernels of one instruction set offer to the driver in deform.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "interface.h"

#include "../deform.h"

extern "C" {

struct ArtaDeformGrad {
  const void* grad_out;        // real (Q, H, dim)
  void* grad_value;            // real (V, H, dim)
  void* grad_location;         // real (Q, H, L, P, 2)
  void* grad_weight;           // real (Q, H, L, P)
  void* grad_power;            // real (1,)
};

}  // extern "C"

namespace arta {

struct DeformKernels {
  // Bytes of scratch that one worker needs for any of the functions.
  size_t (*scratch_bytes)(const ArtaDeform&);
  // Output of queries begin..end-1. Returns whether all indices were in range.
  bool (*forward)(const ArtaDeform&, void* out, int64_t begin, int64_t end, void* scratch);
  // All gradients of one head; adds to `power`. Returns whether all indices were in range.
  bool (*backward)(const ArtaDeform&, const ArtaDeformGrad&, int64_t head, double* power,
                   void* scratch);
};

}  // namespace arta
