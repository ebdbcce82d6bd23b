// What every entry of the library does about exceptions, and sizes that cannot overflow.
#pragma once

#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>

#include "interface.h"

namespace arta {

// Calls `body`. No exception leaves it: the caller is Python without its lock.
template <class Body>
int guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return ARTA_NO_MEMORY;
  } catch (const std::length_error&) {
    return ARTA_NO_MEMORY;
  } catch (...) {
    return ARTA_FAILED;
  }
}

// The product of sizes, or -1 if one of them is negative or it does not fit.
inline int64_t product(int64_t a, int64_t b) {
  int64_t result;
  return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result) ? -1 : result;
}

template <class... Sizes>
int64_t product(int64_t a, int64_t b, Sizes... more) {
  return product(product(a, b), static_cast<int64_t>(more)...);
}

// Whether a size is one that 32-bit numbers count.
inline bool is_size(int64_t size) {
  return size >= 0 && size <= std::numeric_limits<int32_t>::max();
}

}  // namespace arta
