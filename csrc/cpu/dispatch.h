// Which of the instruction sets that kernels are compiled for is used.
#pragma once

#include "interface.h"

namespace arta {

inline bool is_double(const ArtaRun& run) { return run.type == ARTA_FLOAT64; }

enum class Instructions { base, avx2, avx512 };

// The best that this machine has, unless another one was asked for.
Instructions instructions();

}  // namespace arta

// Declares the tables of functions that the copies of a kernel define, and a function
// `name_kernels(run)` that picks one. Double precision is for checking: one copy.
#ifdef ARTA_X86
#define ARTA_KERNELS(Table, name)                                                      \
  extern const Table name##_base_float, name##_base_double;                            \
  extern const Table name##_avx2_float, name##_avx512_float;                           \
  static const Table& name##_kernels(const ArtaRun& run) {                             \
    if (arta::is_double(run)) return name##_base_double;                               \
    switch (arta::instructions()) {                                                    \
      case arta::Instructions::avx512: return name##_avx512_float;                     \
      case arta::Instructions::avx2: return name##_avx2_float;                         \
      default: return name##_base_float;                                               \
    }                                                                                  \
  }
#else
#define ARTA_KERNELS(Table, name)                                                      \
  extern const Table name##_base_float, name##_base_double;                            \
  static const Table& name##_kernels(const ArtaRun& run) {                             \
    return arta::is_double(run) ? name##_base_double : name##_base_float;              \
  }
#endif
