#pragma once

#include <cstdint>

#include "interface.h"

extern "C" {

// Local attention of T tokens in H heads of `dim` channels to the members of their nearest
// clusters and to one blank token.
struct ArtaAttention {
  const void* q;                 // real (T, H, dim)
  const void* kv;                // real (T, H, 2, dim)
  const ArtaWide* bias_weight;   // wide (H, 5): dx, dy, distance, sin, cos
  const ArtaWide* bias_bias;     // wide (H,)
  const ArtaWide* blank_k;       // wide (H, dim)
  const ArtaWide* blank_v;       // wide (H, dim)
  const int32_t* xy;             // (T, 2)
  const int64_t* start;          // (K + 1,) first row of every cluster
  const int64_t* neighbors;      // (T, N) clusters, negative for none
  int64_t total;                 // T
  int64_t clusters;              // K
  int64_t heads;                 // H
  int64_t dim;
  int64_t num_neighbors;         // N
  int64_t cluster_size;          // rows of a cluster at most
  double blank_clamp;            // bound on the blank token's logit; infinity for none
  ArtaRun run;
};

}  // extern "C"
