// What every C function of both back ends uses: how functions are exported, and how to run them.
//
// Every pointer is to a dense row-major array. `real` is the number type of features; `wide`, that
// of what takes more digits, is double where `real` is double and float otherwise.
//
// An op declares its structures and functions in its own sources, and again for ctypes in its
// folder in mmseg_arta/ops: keep both in step, and raise the versions of both whenever they change.
#pragma once

#include <cstdint>

#if defined(__GNUC__)
#define ARTA_API extern "C" __attribute__((visibility("default")))
#else
#define ARTA_API extern "C"
#endif

// The version of an op's structures and functions in this back end.
#define ARTA_INTERFACE(op, version) \
  ARTA_API int arta_##op##_version() { return version; }

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

}  // extern "C"
