// Cuts a worker's scratch memory into arrays. For kernels: see vec.h on inline functions.
#pragma once

#include <cstdint>

namespace {

constexpr int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Only measures the scratch if there is none yet.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    const int64_t here = used_;
    int64_t bytes = 0;
    if (count < 0 || __builtin_mul_overflow(count, static_cast<int64_t>(sizeof(T)), &bytes) ||
        bytes > MOST - here)
      used_ = MOST;
    else
      used_ += up(bytes, 64);
    return memory_ ? reinterpret_cast<T*>(memory_ + here) : nullptr;
  }
  // MOST if the arrays cannot be.
  int64_t used() const { return used_; }

  static constexpr int64_t MOST = int64_t{1} << 62;

 private:
  char* memory_;
  int64_t used_ = 0;
};

}  // namespace
