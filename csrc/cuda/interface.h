// The C interface of the CUDA kernels: plain pointers, sizes and a stream.
//
// Every pointer is to a dense row-major array on the device. Functions start kernels and do not
// wait. They return 0, ARTA_CUDA_UNSUPPORTED for sizes that the kernels do not have, or a CUDA
// error code plus ARTA_CUDA_ERROR. mmseg_arta/ops/cuda/interface.py declares the same structures:
// keep both in step, and raise the version whenever either changes.
#pragma once

#include <cstdint>

#define ARTA_CUDA_VERSION 1
#define ARTA_CUDA_UNSUPPORTED 1
#define ARTA_CUDA_ERROR 1000

#define ARTA_API extern "C" __attribute__((visibility("default")))

extern "C" {

// Number types of `real` below.
enum ArtaType { ARTA_FLOAT = 0, ARTA_HALF = 1, ARTA_BFLOAT16 = 2 };

// Local attention of T tokens in H heads of `dim` channels to the members of their nearest
// clusters and to one blank token.
struct ArtaAttention {
  const void* q;             // real (T, H, dim)
  const void* kv;            // real (T, H, 2, dim)
  const float* bias_weight;  // (H, 5): dx, dy, distance, sin, cos
  const float* bias_bias;    // (H,)
  const float* blank_k;      // (H, dim)
  const float* blank_v;      // (H, dim)
  const int32_t* xy;         // (T, 2)
  const int64_t* start;      // (K + 1,) first row of every cluster
  const int64_t* neighbors;  // (T, N) clusters, negative for none
  int64_t total;             // T
  int64_t clusters;          // K
  int64_t heads;             // H
  int64_t dim;
  int64_t num_neighbors;     // N
  int64_t cluster_size;      // rows of a cluster at most
  double blank_clamp;        // bound on the blank token's logit; infinity for none
  int64_t type;              // ArtaType
  void* stream;
};

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

// Deformable attention of Q queries in H heads: P samples in each of L levels, every sample
// interpolated from the k tokens that are nearest to its cell.
struct ArtaDeform {
  const void* value;         // real (V, H, dim)
  const float* centers;      // (V, 2)
  const int64_t* nearest;    // (L, B, rows, columns, k) rows of value, negative for none
  const int64_t* batch;      // (Q,)
  const float* location;     // (Q, H, L, P, 2)
  const float* weight;       // (Q, H, L, P)
  const float* power;        // (1,) of the squared distance
  int64_t values;            // V
  int64_t queries;           // Q
  int64_t heads;             // H
  int64_t dim;
  int64_t levels;            // L
  int64_t points;            // P
  int64_t images;            // B
  int64_t rows;
  int64_t columns;
  int64_t k;
  double floor;              // lower bound on the squared distance
  double eps;
  int64_t type;              // ArtaType
  void* stream;
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

// Sums of the k neighbours of T places with M sets of weights.
struct ArtaMerge {
  const void* feats;         // real (V, C)
  const int64_t* rows;       // (T, k) rows of feats, negative for none
  const void* weights;       // real (T, k, M)
  int64_t values;            // V
  int64_t places;            // T
  int64_t k;
  int64_t sets;              // M
  int64_t dim;               // C
  int64_t type;              // ArtaType
  void* stream;
};

// Points of several images in grids of side x side buckets; see nearest.cu.
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

// `image` (B, C, height, width) of numbers of `item` bytes; `patches` (T, size * size * C).
ARTA_API int arta_gather_patches(const void* image, const int32_t* xy, const int64_t* batch,
                                 int64_t total, int64_t channels, int64_t height, int64_t width,
                                 int64_t size, int64_t unit, int64_t item, void* patches,
                                 void* stream);
