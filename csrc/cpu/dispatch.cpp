// Finds the instruction sets of this machine.
#include "dispatch.h"

#include <atomic>
#include <cstring>

#include "interface.h"

namespace {

using arta::Instructions;

constexpr const char* NAMES[] = {"base", "avx2", "avx512"};

Instructions best() {
#ifdef ARTA_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return Instructions::avx512;
  if (avx2) return Instructions::avx2;
#endif
  return Instructions::base;
}

std::atomic<int>& chosen() {
  static std::atomic<int> set{static_cast<int>(best())};
  return set;
}

}  // namespace

Instructions arta::instructions() { return static_cast<Instructions>(chosen().load()); }

ARTA_INTERFACE(machine, 1)

// The instruction set that the kernels use on this machine.
ARTA_API const char* arta_cpu_instructions() noexcept { return NAMES[chosen().load()]; }

// Makes the kernels use another instruction set: "base", "avx2", "avx512", or "" for the best.
// Returns 1 if this machine does not have it. For tests and measurements.
ARTA_API int arta_cpu_use(const char* instructions) noexcept {
  const int most = static_cast<int>(best());
  for (int set = most; set >= 0; --set)
    if (!*instructions || !std::strcmp(NAMES[set], instructions)) {
      chosen() = set;
      return 0;
    }
  return 1;
}
