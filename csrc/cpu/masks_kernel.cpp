// Mask probabilities of pixels for one instruction set and number type. Compiled once for each,
// with ARTA_TABLE the name of the table of functions that it defines.
#include <cstddef>

#include "arena.h"
#include "masks_kernel.h"
#include "vec.h"

namespace {

// The widest vectors that an instruction set has.
#if defined(__AVX512F__)
#define ARTA_WIDE 64
#elif defined(__AVX__)
#define ARTA_WIDE 32
#else
#define ARTA_WIDE 16
#endif

typedef real Wide __attribute__((vector_size(ARTA_WIDE)));
typedef mask WideMask __attribute__((vector_size(ARTA_WIDE)));
constexpr int64_t WIDE_LANES = ARTA_WIDE / sizeof(real);

constexpr real LARGEST = 80;  // sigmoid(-80) is 0 to all digits that sums of it have

// For every pixel of a row, with whole vectors: the two cells that it lies between, and how far it
// is on its way to the second.
struct Places {
  Places(const ArtaMasks& p, void* memory) : arena(memory), pixels(up(p.width, WIDE_LANES)) {
    share = arena.take<real>(pixels);
    left = arena.take<int32_t>(pixels);
    right = arena.take<int32_t>(pixels);
  }
  Arena arena;
  int64_t pixels;
  real* share;
  int32_t *left, *right;
};

// A worker's scratch: the logits of two rows of cells at the places of pixels.
struct Scratch {
  Scratch(const ArtaMasks& p, void* memory) : arena(memory) {
    const int64_t pixels = up(p.width, WIDE_LANES) + WIDE_LANES;  // strips end anywhere
    upper = arena.take<real>(pixels);
    lower = arena.take<real>(pixels);
  }
  Arena arena;
  real *upper, *lower;
};

int64_t places_bytes(const ArtaMasks& p) { return Places(p, nullptr).arena.used(); }
int64_t scratch_bytes(const ArtaMasks& p) { return Scratch(p, nullptr).arena.used(); }

// The two cells that pixel `at` lies between, and how far it is on its way to the second.
ARTA_INLINE real between(int64_t at, double step, int64_t count, int64_t& low, int64_t& high) {
  double place = (static_cast<double>(at) + 0.5) * step - 0.5;
  if (place < 0) place = 0;
  low = static_cast<int64_t>(place);
  if (low > count - 1) low = count - 1;
  high = low + 1 < count ? low + 1 : low;
  return static_cast<real>(place - static_cast<double>(low));
}

void places(const ArtaMasks& p, void* to) {
  const Places all(p, to);
  const double step = 1.0 / static_cast<double>(p.cell);
  for (int64_t x = 0; x < all.pixels; ++x) {
    int64_t low, high;
    all.share[x] = between(x, step, p.columns, low, high);
    all.left[x] = static_cast<int32_t>(low);
    all.right[x] = static_cast<int32_t>(high);
  }
}

ARTA_INLINE Wide sigmoid(Wide x) {
  // In this order, what is not a number stays so.
  Wide negative = -x < -LARGEST ? Wide{} - LARGEST : -x;
  negative = negative > LARGEST ? Wide{} + LARGEST : negative;
  return 1 / (exponential_lanes<Wide, WideMask>(negative) + 1);
}

// The logits of a row of cells at the places of pixels.
void spread(const Places& at, const real* logits, real* to) {
  for (int64_t x = 0; x < at.pixels; ++x)
    to[x] = logits[at.left[x]] * (1 - at.share[x]) + logits[at.right[x]] * at.share[x];
}

// Probabilities in pixels that are `down` of the way from one row of cells to the next, whose
// logits `upper` and `lower` may be read to the end of the last vector.
void probabilities(const real* upper, const real* lower, int64_t pixels, real down, real* to) {
  const real up = 1 - down;
  for (int64_t x = 0; x < pixels; x += WIDE_LANES) {
    Wide above, below;
    __builtin_memcpy(&above, upper + x, sizeof(Wide));
    __builtin_memcpy(&below, lower + x, sizeof(Wide));
    const Wide result = sigmoid(above * up + below * down);
    if (pixels - x >= WIDE_LANES)
      __builtin_memcpy(to + x, &result, sizeof(Wide));
    else
      __builtin_memcpy(to + x, &result, static_cast<size_t>(pixels - x) * sizeof(real));
  }
}

void query(const ArtaMasks& p, void* places, void* out, int64_t query, void* memory) {
  const Places at(p, places);
  Scratch mine(p, memory);
  const real* logits = static_cast<const real*>(p.logits) + query * p.rows * p.columns;
  const int64_t pixels = p.width / p.strips;
  real* to = static_cast<real*>(out) + query * pixels;
  const double step = 1.0 / static_cast<double>(p.cell);
  int64_t upper = -1, lower = -1;  // rows of cells that the scratch holds
  for (int64_t y = 0; y < p.height; ++y) {
    int64_t above, below;
    const real down = between(p.first + y, step, p.rows, above, below);
    if (above != upper) {
      real* free = mine.upper;
      if (above == lower) {
        mine.upper = mine.lower;
        mine.lower = free;
      } else {
        spread(at, logits + above * p.columns, mine.upper);
      }
      spread(at, logits + below * p.columns, mine.lower);
      upper = above;
      lower = below;
    }
    for (int64_t x = 0; x < p.width; x += pixels, to += p.queries * pixels)
      probabilities(mine.upper + x, mine.lower + x, pixels, down, to);
  }
}

}  // namespace

extern const arta::MaskKernels ARTA_TABLE;
const arta::MaskKernels ARTA_TABLE = {places_bytes, places, scratch_bytes, query};
