#pragma once

#include <cstdint>

#include "interface.h"

extern "C" {

// Deformable attention of Q queries in H heads: P samples in each of L levels, every sample
// interpolated from the k tokens that are nearest to its cell.
struct ArtaDeform {
  const void* value;             // real (V, H, dim)
  const ArtaWide* centers;       // wide (V, 2)
  const int64_t* nearest;        // (L, B, rows, columns, k) rows of value, negative for none
  const int64_t* batch;          // (Q,)
  const ArtaWide* location;      // wide (Q, H, L, P, 2)
  const ArtaWide* weight;        // wide (Q, H, L, P)
  const ArtaWide* power;         // wide (1,) of the squared distance
  int64_t values;                // V
  int64_t queries;               // Q
  int64_t heads;                 // H
  int64_t dim;
  int64_t levels;                // L
  int64_t points;                // P
  int64_t images;                // B
  int64_t rows;
  int64_t columns;
  int64_t k;
  double floor;                  // lower bound on the squared distance
  double eps;
  ArtaRun run;
};

}  // extern "C"
