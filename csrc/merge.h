#pragma once

#include <cstdint>

#include "interface.h"

extern "C" {

// Sums of the k neighbours of T places with M sets of weights.
struct ArtaMerge {
  const void* feats;             // real (V, C)
  const int64_t* rows;           // (T, k) rows of feats, negative for none
  const void* weights;           // real (T, k, M)
  int64_t values;                // V
  int64_t places;                // T
  int64_t k;
  int64_t sets;                  // M
  int64_t dim;                   // C
  ArtaRun run;
};

}  // extern "C"
