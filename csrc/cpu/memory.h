// Memory that may fail to come, and pieces of it for every worker.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace arta {

// Pieces of a large array that is about to be written for the first time. `populate` has the
// operating system put memory behind one of them in one step and not page by page as it is
// touched. Nothing depends on it.
class Room {
 public:
  Room(void* array, int64_t bytes) {
    constexpr uintptr_t PAGE = 4096;
    const auto address = reinterpret_cast<uintptr_t>(array);
    begin_ = (address + PAGE - 1) / PAGE * PAGE;
    const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / PAGE * PAGE;
    bytes_ = end > begin_ ? static_cast<int64_t>(end - begin_) : 0;
  }
  int64_t pieces() const { return (bytes_ + PIECE - 1) / PIECE; }
  void populate(int64_t piece) const {
#if defined(MADV_POPULATE_WRITE)
    const int64_t first = piece * PIECE;
    madvise(reinterpret_cast<void*>(begin_ + static_cast<uintptr_t>(first)),
            static_cast<size_t>(std::min(PIECE, bytes_ - first)), MADV_POPULATE_WRITE);
#else
    static_cast<void>(piece);
#endif
  }

 private:
  static constexpr int64_t PIECE = int64_t{1} << 24;
  uintptr_t begin_;
  int64_t bytes_;
};

// Not initialised; null if there is none.
template <class T>
std::unique_ptr<T[]> get(int64_t count) {
  const auto size = static_cast<size_t>(std::max<int64_t>(count, 1));
  return std::unique_ptr<T[]>(new (std::nothrow) T[size]);
}

// One piece of memory per worker, on cache lines of its own.
class Workers {
 public:
  Workers(size_t bytes, int64_t count)
      : bytes_((bytes + 127) / 128 * 128),
        memory_(get<char>(static_cast<int64_t>(bytes_) * count + 128)) {}
  bool failed() const { return !memory_; }
  void* operator[](int64_t worker) const {
    const auto base = (reinterpret_cast<uintptr_t>(memory_.get()) + 127) / 128 * 128;
    return reinterpret_cast<void*>(base + bytes_ * static_cast<size_t>(worker));
  }

 private:
  size_t bytes_;
  std::unique_ptr<char[]> memory_;
};

inline int64_t parts_of(int64_t count, int64_t per_part) {
  return (count + per_part - 1) / per_part;
}

}  // namespace arta
