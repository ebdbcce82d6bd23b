// Runs the kernels on the CPU, one thread of the GPU after the other, to test them on machines
// without one. The lanes of a warp are fibers that meet wherever they exchange numbers. Half types
// are those of the toolkit's headers, which work on the host too.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#define __launch_bounds__(...)
#define ARTA_SHARED(name) float* name = arta_emulation::shared.data()
#define ARTA_LAUNCH(kernel, blocks, threads, bytes, stream, ...) \
  ((void)(stream),              \
   arta_emulation::launch(blocks, threads, bytes, [=] { ARTA_UNWRAP kernel(__VA_ARGS__); }))
#define ARTA_UNWRAP(...) __VA_ARGS__

namespace arta_emulation {

struct Index {
  unsigned x = 0;
};
inline Index thread, block;
inline std::vector<float> shared;

constexpr int LANES = 32;
constexpr size_t STACK = 128 << 10;

struct Warp {
  ucontext_t home, lane[LANES];
  std::unique_ptr<char[]> stack[LANES];
  uint64_t slot[LANES];
  bool done[LANES];
  int current;
  std::function<void()> body;
};
inline Warp warp;

// Waits until every lane that still runs has come here.
inline void meet() {
  const unsigned x = thread.x;
  swapcontext(&warp.lane[warp.current], &warp.home);
  thread.x = x;
}

inline void enter() {
  warp.body();
  warp.done[warp.current] = true;
}

inline void run_warp(unsigned first) {
  for (int i = 0; i < LANES; ++i) {
    if (!warp.stack[i]) warp.stack[i].reset(new char[STACK]);
    warp.done[i] = false;
    getcontext(&warp.lane[i]);
    warp.lane[i].uc_stack.ss_sp = warp.stack[i].get();
    warp.lane[i].uc_stack.ss_size = STACK;
    warp.lane[i].uc_link = &warp.home;
    makecontext(&warp.lane[i], enter, 0);
  }
  for (bool running = true; running;) {
    running = false;
    for (int i = 0; i < LANES; ++i) {
      if (warp.done[i]) continue;
      warp.current = i;
      thread.x = first + static_cast<unsigned>(i);
      swapcontext(&warp.home, &warp.lane[i]);
      running |= !warp.done[i];
    }
  }
}

template <class Body>
void launch(unsigned blocks, unsigned threads, size_t bytes, const Body& body) {
  warp.body = body;
  // What the kernel does not write shows.
  shared.assign(bytes / sizeof(float) + 1, std::nanf(""));
  for (block.x = 0; block.x < blocks; ++block.x)
    for (unsigned first = 0; first < threads; first += LANES) run_warp(first);
}

// Every lane shows a number and reads that of another one.
template <class T, class Source>
T exchange(T mine, const Source& source) {
  const int me = warp.current;
  std::memcpy(&warp.slot[me], &mine, sizeof(T));
  meet();
  T other;
  std::memcpy(&other, &warp.slot[source(me)], sizeof(T));
  meet();
  return other;
}

}  // namespace arta_emulation

#define threadIdx arta_emulation::thread
#define blockIdx arta_emulation::block

template <class T>
T __shfl_xor_sync(unsigned, T x, int step) {
  return arta_emulation::exchange(x, [&](int me) { return me ^ step; });
}
template <class T>
T __shfl_sync(unsigned, T x, int lane, int width = 32) {
  return arta_emulation::exchange(x, [&](int me) { return me / width * width + lane % width; });
}
inline unsigned __ballot_sync(unsigned, bool x) {
  const int me = arta_emulation::warp.current;
  arta_emulation::warp.slot[me] = x;
  arta_emulation::meet();
  unsigned all = 0;
  for (int i = 0; i < 32; ++i)
    if (!arta_emulation::warp.done[i] && arta_emulation::warp.slot[i]) all |= 1u << i;
  arta_emulation::meet();
  return all;
}
inline void __syncwarp() { arta_emulation::meet(); }
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __float_as_int(float x) {
  int bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float atomicAdd(float* to, float x) {
  const float before = *to;
  *to += x;
  return before;
}
using std::max;
using std::min;

inline cudaError_t cudaGetLastErrorHere() { return cudaSuccess; }
#define cudaGetLastError cudaGetLastErrorHere
