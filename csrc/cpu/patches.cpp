// Raw pixels of patches, packed, and back.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#include "dispatch.h"
#include "guard.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"
#include "reverse_index.h"

#include "../patches.h"

namespace {

constexpr int64_t BYTES_PER_PART = 1 << 16;

struct Sizes {
  explicit Sizes(const ArtaPatches& p)
      : rows(p.height / p.size), columns(p.width / p.size), plane(p.height * p.width),
        numbers(p.size * p.size * p.channels),
        per_part(std::max<int64_t>(BYTES_PER_PART / std::max<int64_t>(numbers * p.item, 1), 1)) {}
  int64_t rows, columns;  // of patches in an image
  int64_t plane, numbers;
  int64_t per_part;       // patches that a thread takes at a time
};

// Whether the images divide into patches, and numbers can be counted.
bool fits(const ArtaPatches& p) {
  return p.total >= 0 && p.unit >= 1 && p.size >= p.unit && p.size % p.unit == 0 &&
         arta::is_size(p.size) && p.height >= 0 && p.height % p.size == 0 && p.width >= 0 &&
         p.width % p.size == 0 &&
         arta::product(arta::product(p.size, p.size, p.channels), p.total, p.item) >= 0 &&
         arta::product(p.images, p.channels, p.height, p.width) >= 0 &&
         arta::product(p.images, p.height, p.width) >= 0;
}

// Which patch of all images a token is, or -1.
int64_t place_of(const ArtaPatches& p, const Sizes& s, int64_t token) {
  const int64_t image = p.batch[token];
  const int32_t side = static_cast<int32_t>(p.size / p.unit);
  const int32_t x = p.xy[2 * token], y = p.xy[2 * token + 1];
  const int32_t column = x / side, row = y / side;
  if (image < 0 || image >= p.images || x < 0 || y < 0 || column >= s.columns || row >= s.rows ||
      column * side != x || row * side != y)
    return -1;
  return (image * s.rows + row) * s.columns + column;
}

// Where the first pixel of a place lies.
int64_t offset_of(const ArtaPatches& p, const Sizes& s, int64_t place) {
  const int64_t column = place % s.columns, row = place / s.columns % s.rows;
  const int64_t image = place / s.columns / s.rows;
  return image * p.channels * s.plane + (row * p.width + column) * p.size;
}

template <class T, int C>
void copy_pixels(const T* image, int64_t plane, int64_t channels, int64_t count, T* to) {
  if (C) channels = C;
  for (int64_t x = 0; x < count; ++x)
    for (int64_t c = 0; c < channels; ++c) to[x * channels + c] = image[c * plane + x];
}

template <class T>
int gather(const ArtaPatches& p, const T* image, T* patches) {
  const Sizes s(p);
  if (!s.numbers) return 0;
  std::atomic<bool> valid{true};
  auto job = [&](int64_t, int64_t part) {
    const int64_t end = std::min((part + 1) * s.per_part, p.total);
    for (int64_t token = part * s.per_part; token < end; ++token) {
      const int64_t place = place_of(p, s, token);
      if (place < 0) {
        valid = false;
        continue;
      }
      const T* from = image + offset_of(p, s, place);
      T* to = patches + token * s.numbers;
      const auto copy = p.channels == 3 ? copy_pixels<T, 3> : copy_pixels<T, 0>;
      for (int64_t y = 0; y < p.size; ++y)
        copy(from + y * p.width, s.plane, p.channels, p.size, to + y * p.size * p.channels);
    }
  };
  arta::parallel(arta::parts_of(p.total, s.per_part), p.run.threads, job);
  return valid ? 0 : ARTA_BAD_INDEX;
}

// Every place adds up its tokens in their order.
template <class T>
int scatter(const ArtaPatches& p, const T* grad_patches, T* grad_image) {
  const Sizes s(p);
  const int64_t places = p.images * s.rows * s.columns;
  arta::ReverseIndex<int64_t> tokens;
  std::atomic<bool> valid{true};
  const auto number = [&](int64_t token) {
    const int64_t place = place_of(p, s, token);
    if (place < 0) valid = false;
    return place;
  };
  if (!tokens.build(p.total, 1, places, p.run.threads, number)) return ARTA_NO_MEMORY;
  if (!valid) return ARTA_BAD_INDEX;
  auto job = [&](int64_t, int64_t part) {
    const int64_t end = std::min((part + 1) * s.per_part, places);
    for (int64_t place = part * s.per_part; place < end; ++place) {
      T* to = grad_image + offset_of(p, s, place);
      for (int64_t c = 0; c < p.channels; ++c)
        for (int64_t y = 0; y < p.size; ++y)
          for (int64_t x = 0; x < p.size; ++x) {
            T sum = 0;
            for (int64_t i = tokens.first[place]; i < tokens.first[place + 1]; ++i)
              sum += grad_patches[tokens.items[i] * s.numbers +
                                  (y * p.size + x) * p.channels + c];
            to[c * s.plane + y * p.width + x] = sum;
          }
    }
  };
  arta::parallel(arta::parts_of(places, s.per_part), p.run.threads, job);
  return valid ? 0 : ARTA_BAD_INDEX;
}

template <class T>
int gather_as(const ArtaPatches& p, const void* image, void* patches) {
  return gather(p, static_cast<const T*>(image), static_cast<T*>(patches));
}

int forward(const ArtaPatches& p, const void* image, void* patches) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  switch (p.item) {
    case 1: return gather_as<uint8_t>(p, image, patches);
    case 2: return gather_as<uint16_t>(p, image, patches);
    case 4: return gather_as<uint32_t>(p, image, patches);
    case 8: return gather_as<uint64_t>(p, image, patches);
  }
  return ARTA_BAD_SIZE;
}

int backward(const ArtaPatches& p, const void* grad_patches, void* grad_image) {
  if (!fits(p)) return ARTA_BAD_SIZE;
  if (arta::is_double(p.run))
    return scatter(p, static_cast<const double*>(grad_patches), static_cast<double*>(grad_image));
  return scatter(p, static_cast<const float*>(grad_patches), static_cast<float*>(grad_image));
}

}  // namespace

ARTA_INTERFACE(gather_patches, 2)

// `image` (B, C, height, width); `patches` (T, size * size * C), channels fastest.
ARTA_API int arta_gather_patches(const ArtaPatches* problem, const void* image, void* patches) {
  return arta::guarded([&] { return forward(*problem, image, patches); });
}

// The sum of the patches at every place; numbers are float or double by the type of the run.
ARTA_API int arta_gather_patches_backward(const ArtaPatches* problem, const void* grad_patches,
                                          void* grad_image) {
  return arta::guarded([&] { return backward(*problem, grad_patches, grad_image); });
}
