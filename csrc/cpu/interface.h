// The C interface of the CPU kernels: plain pointers, sizes and a thread count.
//
// Every pointer is to a dense row-major array. Functions return 0, or 1 when they could not
// get memory. mmseg_arta/ops/cpu/library.py declares the same structures: keep both in step,
// and raise the version whenever either changes.
#pragma once

#include <cstdint>

#define ARTA_CPU_VERSION 1

#if defined(__GNUC__)
#define ARTA_API extern "C" __attribute__((visibility("default")))
#else
#define ARTA_API extern "C"
#endif

extern "C" {

// Local attention of T tokens in H heads of `dim` channels to the members of their nearest
// clusters and to one blank token. `real` below is float, or double if `is_double`.
struct ArtaAttention {
  const void* q;               // real (T, H, dim)
  const void* kv;              // real (T, H, 2, dim)
  const void* bias_weight;     // real (H, 5): dx, dy, distance, sin, cos
  const void* bias_bias;       // real (H,)
  const void* blank_k;         // real (H, dim)
  const void* blank_v;         // real (H, dim)
  const int32_t* xy;           // (T, 2)
  const int64_t* start;        // (K + 1,) first row of every cluster
  const int64_t* neighbors;    // (T, N) clusters, negative for none
  int64_t total;               // T
  int64_t clusters;            // K
  int64_t heads;               // H
  int64_t dim;
  int64_t num_neighbors;       // N
  int64_t cluster_size;        // rows of a cluster at most
  double blank_clamp;          // bound on the blank token's logit; infinity for none
  int64_t is_double;
  int64_t threads;
};

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

// The `width` nearest clusters of every row, by squared distance to the mean of the members in
// double precision, equal distances by index; -1 where an image has fewer clusters.
// `lengths` (images,) are rows per image; `nearest` (T, width).
ARTA_API int arta_nearest_clusters(const int32_t* xy, const int64_t* start, int64_t clusters,
                                   const int64_t* lengths, int64_t images, int64_t cluster_size,
                                   int64_t width, int64_t* nearest, int64_t threads);
