// The problems that the kernels of both back ends solve: pointers, sizes, how to run.
//
// Every pointer is to a dense row-major array. `real` is the number type of features; `wide`, that
// of what takes more digits, is double where `real` is double and float otherwise.
// mmseg_arta/ops/native/interface.py declares the same structures: keep both in step, and raise
// both back ends' versions whenever either changes.
#pragma once

#include <cstdint>

#if defined(__GNUC__)
#define ARTA_API extern "C" __attribute__((visibility("default")))
#else
#define ARTA_API extern "C"
#endif

extern "C" {

// Number types of `real`: those of CPU kernels are float and double, those of CUDA kernels all but
// double.
enum ArtaType { ARTA_FLOAT32 = 0, ARTA_FLOAT64 = 1, ARTA_FLOAT16 = 2, ARTA_BFLOAT16 = 3 };

// How to run: what kernels on the CPU use, and those on a GPU.
struct ArtaRun {
  int64_t type;     // ArtaType
  int64_t threads;  // CPU
  void* stream;     // GPU
};

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
