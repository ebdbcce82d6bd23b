// Numbers and loads that the kernels share.
#pragma once

#ifdef ARTA_EMULATE
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// Starts a kernel: name, blocks, threads, bytes of shared memory, stream, arguments.
#define ARTA_LAUNCH(kernel, blocks, threads, bytes, stream, ...) \
  kernel<<<blocks, threads, bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
// Shared memory of the size given at the start.
#define ARTA_SHARED(name) extern __shared__ float name[]
#endif

#include <cstdint>
#include <type_traits>

#include "interface.h"

namespace arta {

constexpr unsigned WARP = 0xffffffffu;
constexpr int TILE = 8;  // rows of a neighbour cluster that are handled together

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) { return x; }
template <>
__device__ __forceinline__ __half from_float<__half>(float x) { return __float2half(x); }
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}

// N numbers that are loaded and stored at once: 16 bytes where N is 16 / sizeof(T).
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T number[N];
  __device__ __forceinline__ float operator[](int i) const { return to_float(number[i]); }
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <class T, int N>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.number[i] = from_float<T>(from[i]);
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Sum over the L lanes of a group.
template <int L>
__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
  for (int step = L / 2; step; step /= 2) x += __shfl_xor_sync(WARP, x, step);
  return x;
}

template <int L>
__device__ __forceinline__ float group_max(float x) {
#pragma unroll
  for (int step = L / 2; step; step /= 2) x = fmaxf(x, __shfl_xor_sync(WARP, x, step));
  return x;
}

// Sums of eight numbers over the L lanes of a group, dealt out among the lanes: afterwards
// s[0..KEPT-1] are those of the numbers first_kept(lane)... With fewer shuffles than eight sums.
template <int L>
struct Dealt {
  static constexpr int KEPT = L >= TILE ? 1 : TILE / L;
  static constexpr int LANES_PER_ROW = L >= TILE ? L / TILE : 1;

  __device__ __forceinline__ static int first_kept(int lane) {
    return L >= TILE ? lane / LANES_PER_ROW : lane * KEPT;
  }
  // The lane of the group that keeps a number.
  __device__ __forceinline__ static int lane_of(int row) {
    return L >= TILE ? row * LANES_PER_ROW : row / KEPT;
  }

  __device__ __forceinline__ static void sum(float (&s)[TILE], int lane) {
    int step = L / 2;
#pragma unroll
    for (int half = TILE / 2; half >= KEPT; half /= 2) {
      const bool upper = lane & step;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const float give = upper ? s[i] : s[i + half];
        const float keep = upper ? s[i + half] : s[i];
        s[i] = keep + __shfl_xor_sync(WARP, give, step);
      }
      step /= 2;
    }
    for (; step; step /= 2) s[0] += __shfl_xor_sync(WARP, s[0], step);
  }
};

inline int status() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? 0 : ARTA_CUDA_ERROR + static_cast<int>(error);
}

inline unsigned blocks_for(int64_t count, int64_t per_block) {
  // More than there may be is an error of the launch, not a grid that is too small.
  const int64_t blocks = count / per_block + (count % per_block != 0);
  return blocks > 0xffffffff ? 0xffffffffu : static_cast<unsigned>(blocks);
}

// Calls `call(T{})` with the number type of `type`.
template <class Call>
int with_type(int64_t type, const Call& call) {
  switch (type) {
    case ARTA_FLOAT32: return call(float{});
    case ARTA_FLOAT16: return call(__half{});
    case ARTA_BFLOAT16: return call(__nv_bfloat16{});
  }
  return ARTA_CUDA_UNSUPPORTED;
}

}  // namespace arta
