// Memory that may fail to come, and pieces of it for every worker.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

#include "guard.h"

namespace arta {

// Not initialised; null if there is none, or if the count is none.
template <class T>
std::unique_ptr<T[]> get(int64_t count) {
  if (count < 0 || count > std::numeric_limits<int64_t>::max() / static_cast<int64_t>(sizeof(T)))
    return nullptr;
  const auto size = static_cast<size_t>(std::max<int64_t>(count, 1));
  return std::unique_ptr<T[]>(new (std::nothrow) T[size]);
}

// One piece of memory per worker, on cache lines of its own.
class Workers {
 public:
  Workers(size_t bytes, int64_t count)
      : bytes_((bytes + 127) / 128 * 128), memory_(get<char>(all(bytes_, count))) {}
  bool failed() const { return !memory_; }
  void* operator[](int64_t worker) const {
    const auto base = (reinterpret_cast<uintptr_t>(memory_.get()) + 127) / 128 * 128;
    return reinterpret_cast<void*>(base + bytes_ * static_cast<size_t>(worker));
  }

 private:
  static int64_t all(size_t bytes, int64_t count) {
    const int64_t pieces = product(static_cast<int64_t>(bytes), count);
    return pieces < 0 || pieces > std::numeric_limits<int64_t>::max() - 128 ? -1 : pieces + 128;
  }

  size_t bytes_;
  std::unique_ptr<char[]> memory_;
};

inline int64_t parts_of(int64_t count, int64_t per_part) {
  return count / per_part + (count % per_part != 0);
}

}  // namespace arta
