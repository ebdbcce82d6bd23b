// The C interface of the CUDA kernels: plain pointers, sizes and a stream.
//
// Every pointer is to a dense row-major array on the device. Functions start kernels and do not
// wait. They return 0, ARTA_CUDA_UNSUPPORTED for sizes that the kernels do not have, or a CUDA
// error code plus ARTA_CUDA_ERROR. mmseg_arta/ops/cuda/interface.py declares the same: keep both in
// step, and raise the version whenever either changes.
#pragma once

typedef float ArtaWide;

#include "../problems.h"

#define ARTA_CUDA_VERSION 2
#define ARTA_CUDA_UNSUPPORTED 1
#define ARTA_CUDA_ERROR 1000

extern "C" {

// What the forward pass leaves and the backward pass returns.
struct ArtaAttentionGrad {
  const void* grad_out;      // real (T, H, dim)
  const void* out;           // real (T, H, dim), of the forward pass
  const float* lse;          // (T, H), of the forward pass
  const int64_t* first;      // (K + 1,) where the rows that attend to a cluster begin
  const int32_t* attending;  // those rows, by cluster
  float* delta;              // (T, H), room for grad_out times out
  void* grad_q;              // real (T, H, dim)
  void* grad_kv;             // real (T, H, 2, dim)
  float* sums;               // (arta_attention_parts, H, 6 + 2 dim): parameters' gradients, in
                             // parts: bias_weight, bias_bias, blank_k, blank_v
};

struct ArtaDeformGrad {
  const void* grad_out;      // real (Q, H, dim)
  float* grad_value;         // (V, H, dim), zero before; or null to leave it to arta_deform_return
  float* grad_location;      // (Q, H, L, P, 2)
  float* grad_weight;        // (Q, H, L, P)
  float* grad_power;         // (Q, H), in parts
  int32_t* rows;             // (Q, H, L, P, k) row of every pair, -1 for none
  float* shares;             // (Q, H, L, P, k) its weight
};

// Points of several images in grids of side x side buckets; see places.cu.
struct ArtaGrid {
  const double* points;      // (N, 2) sorted by image and bucket
  const int64_t* index;      // (N,) what a point is called
  const int64_t* first;      // (buckets + 1,) first point of every bucket
  const double* low;         // (B, 2) corner of an image's grid
  const double* step;        // (B, 2) size of its buckets
  const int64_t* base;       // (B,) first bucket of an image
  const int64_t* side;       // (B,) buckets along x and along y
  const double* places;      // (P, 2)
  const int64_t* image;      // (P,)
  int64_t* nearest;          // (P, k), -1 for none
  int64_t total;             // P
  int64_t k;
  void* stream;
};

}  // extern "C"

ARTA_API int64_t arta_cuda_version();

// In how many parts the backward pass of cluster attention sums the parameters' gradients.
ARTA_API int64_t arta_attention_parts();

// `out` real (T, H, dim); `lse` (T, H), the logarithm of the sum of exponentials of all logits.
ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, float* lse);
ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad);

// `out` real (Q, H, dim).
ARTA_API int arta_point_deform_attention(const ArtaDeform* problem, void* out);
// With grad_value, adds to it with atomics.
ARTA_API int arta_point_deform_attention_backward(const ArtaDeform* problem,
                                                  const ArtaDeformGrad* grad);
// grad_value without atomics: `pairs` are the places in `rows` of each (row, head), those of
// number i at first[i]:first[i + 1].
ARTA_API int arta_deform_return(const ArtaDeform* problem, const ArtaDeformGrad* grad,
                                const int64_t* first, const int64_t* pairs, float* grad_value);

// `out` real (T, M, C); in the backward pass `grad_feats` real (V, C), `grad_weights` real
// (T, k, M), and the pairs (place, neighbour) in which row v occurs: pairs[first[v]:first[v + 1]].
ARTA_API int arta_neighborhood_merge(const ArtaMerge* problem, void* out);
ARTA_API int arta_neighborhood_merge_backward(const ArtaMerge* problem, const void* grad_out,
                                              const int64_t* first, const int64_t* pairs,
                                              void* grad_feats, void* grad_weights);

// `keys` (T,): sorting by them orders tokens by image and anchor. `anchors` (B, 3): rows and
// columns of an image's anchors and the number of the first one.
ARTA_API int arta_cluster_keys(const int32_t* xy, const int64_t* batch, const int64_t* anchors,
                               int64_t total, int64_t height, int64_t width, int64_t* keys,
                               void* stream);

ARTA_API int arta_nearest(const ArtaGrid* problem);

// `image` (B, C, height, width); `patches` (T, size * size * C), channels fastest. Of a patch that
// lies outside the image all numbers are 0.
ARTA_API int arta_gather_patches(const ArtaPatches* problem, const void* image, void* patches);
// `grad_image` real (B, C, height, width). The patches of place n, counted row by row over all
// images, are tokens[first[n]:first[n + 1]].
ARTA_API int arta_gather_patches_backward(const ArtaPatches* problem, const void* grad_patches,
                                          const int64_t* first, const int64_t* tokens,
                                          void* grad_image);
