// The C interface of the CPU kernels: plain pointers, sizes and a thread count.
//
// Every pointer is to a dense row-major array. Functions return 0, 1 when they could not get
// memory, or 2 when an index lies outside its array; results are then incomplete.
// mmseg_arta/ops/cpu/interface.py declares the same: keep both in step, and raise the version
// whenever either changes.
#pragma once

typedef void ArtaWide;  // float or double, as `real`

#include "../problems.h"

#define ARTA_CPU_VERSION 5
#define ARTA_NO_MEMORY 1
#define ARTA_BAD_INDEX 2

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

struct ArtaDeformGrad {
  const void* grad_out;        // real (Q, H, dim)
  void* grad_value;            // real (V, H, dim)
  void* grad_location;         // real (Q, H, L, P, 2)
  void* grad_weight;           // real (Q, H, L, P)
  void* grad_power;            // real (1,)
};

// Mask probabilities of Q queries in rows of pixels of an image: the sigmoid of their logits, which
// are bilinear between the middles of cells.
struct ArtaMasks {
  const void* logits;          // real (Q, rows, columns)
  int64_t queries;             // Q
  int64_t rows;
  int64_t columns;
  int64_t cell;                // side of a cell in pixels
  int64_t first;               // row of pixels
  int64_t height;              // rows of pixels
  int64_t width;               // of the image in pixels, a multiple of strips
  int64_t strips;              // equal parts of a row of pixels
  ArtaRun run;
};

}  // extern "C"

ARTA_API int64_t arta_cpu_version();

// The instruction set that the kernels use on this machine.
ARTA_API const char* arta_cpu_instructions();

// Makes the kernels use another instruction set: "base", "avx2", "avx512", or "" for the best.
// Returns 1 if this machine does not have it. For tests and measurements.
ARTA_API int arta_cpu_use(const char* instructions);

// Whether work runs on the OpenMP threads of the process (1) or on threads made per call (0).
ARTA_API int64_t arta_cpu_shares_openmp();

// `out` (T, H, dim); `lse` (T, H), the logarithm of the sum of exponentials of all logits.
ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, void* lse);
ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad);

// `out` (Q, H, dim).
ARTA_API int arta_point_deform_attention(const ArtaDeform* problem, void* out);
ARTA_API int arta_point_deform_attention_backward(const ArtaDeform* problem,
                                                  const ArtaDeformGrad* grad);

// `out` (T, M, C); in the backward pass `grad_feats` (V, C) and `grad_weights` (T, k, M).
ARTA_API int arta_neighborhood_merge(const ArtaMerge* problem, void* out);
ARTA_API int arta_neighborhood_merge_backward(const ArtaMerge* problem, const void* grad_out,
                                              void* grad_feats, void* grad_weights);

// `order` (T,): tokens by image and cluster. `start` (T / cluster_size + B + 1,): first row of
// every cluster. `xy` (T, 2); `batch` (T,) image of every token; `counts` (B,) tokens per image.
ARTA_API int arta_balanced_clusters(const int32_t* xy, const int64_t* batch, int64_t total,
                                    const int64_t* counts, int64_t images, int64_t height,
                                    int64_t width, int64_t cluster_size, int64_t* order,
                                    int64_t* start, int64_t threads);

// The `width` nearest clusters of every row, by squared distance to the mean of the members in
// double precision, equal distances by index; -1 where an image has fewer clusters.
// `lengths` (images,) are rows per image; `nearest` (T, width).
ARTA_API int arta_nearest_clusters(const int32_t* xy, const int64_t* start, int64_t clusters,
                                   const int64_t* lengths, int64_t images, int64_t cluster_size,
                                   int64_t width, int64_t* nearest, int64_t threads);

// The k nearest of an image's centers (V, 2) for every place (P, 2), by squared distance in double
// precision, equal distances by row; -1 where an image has fewer. `nearest` (P, k).
ARTA_API int arta_nearest_tokens(const double* places, const int64_t* place_lengths,
                                 const double* centers, const int64_t* lengths, int64_t images,
                                 int64_t k, int64_t* nearest, int64_t threads);

// `image` (B, C, height, width); `patches` (T, size * size * C), channels fastest.
ARTA_API int arta_gather_patches(const ArtaPatches* problem, const void* image, void* patches);
// The sum of the patches at every place; numbers are float or double by `item`.
ARTA_API int arta_gather_patches_backward(const ArtaPatches* problem, const void* grad_patches,
                                          void* grad_image);

// `out` (height, strips, Q, width / strips).
ARTA_API int arta_mask_probabilities(const ArtaMasks* problem, void* out);

// Has the operating system put memory behind a new array that is about to be written.
ARTA_API int arta_make_room(void* array, int64_t bytes, int64_t threads);
