// Raw pixels of patches, packed, and back: a thread has one number of what is written.
#include "common.cuh"

#include "../patches.h"

namespace {

using namespace arta;

constexpr int THREADS = 128;

template <class T>
__global__ void __launch_bounds__(THREADS)
    gather_patches_kernel(const ArtaPatches p, const T* image, T* patches) {
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  const int64_t numbers = p.size * p.size * p.channels, token = item / numbers;
  if (token >= p.total) return;
  const int64_t channel = item % p.channels, pixel = item % numbers / p.channels;
  const int64_t side = p.size / p.unit, from = p.batch[token];
  const int64_t left = p.xy[2 * token], top = p.xy[2 * token + 1];
  const int64_t x = left / side * p.size + pixel % p.size;
  const int64_t y = top / side * p.size + pixel / p.size;
  // A wrong place must not read elsewhere.
  const bool exists =
      from >= 0 && from < p.images && left >= 0 && x < p.width && top >= 0 && y < p.height;
  patches[item] = exists ? image[((from * p.channels + channel) * p.height + y) * p.width + x] : T();
}

// Every pixel adds up its patches in their order.
template <class T>
__global__ void __launch_bounds__(THREADS)
    return_patches_kernel(const ArtaPatches p, const T* grad_patches, const int64_t* first,
                          const int64_t* tokens, T* grad_image) {
  const int64_t item = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  const int64_t plane = p.height * p.width, image = item / plane / p.channels;
  if (image >= p.images) return;
  const int64_t x = item % p.width, y = item % plane / p.width, channel = item / plane % p.channels;
  const int64_t rows = p.height / p.size, columns = p.width / p.size;
  const int64_t place = (image * rows + y / p.size) * columns + x / p.size;
  const int64_t inside = (y % p.size * p.size + x % p.size) * p.channels + channel;
  float sum = 0;
  for (int64_t i = first[place]; i < first[place + 1]; ++i)
    sum += to_float(grad_patches[tokens[i] * p.size * p.size * p.channels + inside]);
  grad_image[item] = from_float<T>(sum);
}

template <class T>
int gather(const ArtaPatches& p, const void* image, void* patches) {
  ARTA_LAUNCH((gather_patches_kernel<T>),
              blocks_for(p.total * p.size * p.size * p.channels, THREADS), THREADS, 0,
              p.run.stream, p, static_cast<const T*>(image), static_cast<T*>(patches));
  return status();
}

}  // namespace

ARTA_INTERFACE(gather_patches, 1)

// `image` (B, C, height, width); `patches` (T, size * size * C), channels fastest. Of a patch that
// lies outside the image all numbers are 0.
ARTA_API int arta_gather_patches(const ArtaPatches* problem, const void* image, void* patches) try {
  const ArtaPatches& p = *problem;
  if (p.total * p.channels == 0) return 0;
  switch (p.item) {
    case 1: return gather<uint8_t>(p, image, patches);
    case 2: return gather<uint16_t>(p, image, patches);
    case 4: return gather<uint32_t>(p, image, patches);
    default: return gather<uint64_t>(p, image, patches);
  }
} catch (...) {
  return ARTA_CUDA_FAILED;
}

// `grad_image` real (B, C, height, width). The patches of place n, counted row by row over all
// images, are tokens[first[n]:first[n + 1]].
ARTA_API int arta_gather_patches_backward(const ArtaPatches* problem, const void* grad_patches,
                                          const int64_t* first, const int64_t* tokens,
                                          void* grad_image) try {
  const ArtaPatches& p = *problem;
  const int64_t numbers = p.images * p.channels * p.height * p.width;
  if (numbers == 0) return 0;
  return with_type(p.run.type, [&](auto number) {
    using T = decltype(number);
    ARTA_LAUNCH((return_patches_kernel<T>), blocks_for(numbers, THREADS), THREADS, 0, p.run.stream,
                p, static_cast<const T*>(grad_patches), first, tokens, static_cast<T*>(grad_image));
    return status();
  });
} catch (...) {
  return ARTA_CUDA_FAILED;
}
