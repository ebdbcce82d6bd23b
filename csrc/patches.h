#pragma once

#include <cstdint>

#include "interface.h"

extern "C" {

// Square patches of B images with C channels.
struct ArtaPatches {
  const int32_t* xy;             // (T, 2) corners of the patches in units of `unit` pixels
  const int64_t* batch;          // (T,)
  int64_t total;                 // T
  int64_t images;                // B
  int64_t channels;              // C
  int64_t height;                // a multiple of size
  int64_t width;                 // a multiple of size
  int64_t size;                  // side of a patch in pixels, a multiple of unit
  int64_t unit;
  int64_t item;                  // bytes of a number: 1, 2, 4 or 8
  ArtaRun run;                   // type: of the backward pass
};

}  // extern "C"
