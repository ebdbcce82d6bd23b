// Class scores of pixels for one instruction set and number type. Compiled once for each, with
// ARTA_TABLE the name of the table of functions that it defines.
#include "arena.h"
#include "scores_kernel.h"
#include "vec.h"

namespace {

// The product of classes and masks is computed in tiles of CLASSES x PIXELS sums, as many as the
// registers of an instruction set hold, the widest that it has.
#if defined(__AVX512F__)
#define ARTA_WIDE 64
constexpr int CLASSES = 6, VECTORS = 4;
#elif defined(__AVX__)
#define ARTA_WIDE 32
constexpr int CLASSES = 6, VECTORS = 2;
#else
#define ARTA_WIDE 16
constexpr int CLASSES = 4, VECTORS = LANES * sizeof(real) / ARTA_WIDE;
#endif

typedef real Wide __attribute__((vector_size(ARTA_WIDE)));
constexpr int WIDE_LANES = ARTA_WIDE / static_cast<int>(sizeof(real));
constexpr int PIXELS = VECTORS * WIDE_LANES;
static_assert(PIXELS % LANES == 0, "panels are filled LANES pixels at a time");

constexpr real LARGEST = 80;  // sigmoid(-80) is 0 to all digits that sums of it have

struct Sizes {
  explicit Sizes(const ArtaScores& p)
      : queries(p.queries), blocks((p.classes + CLASSES - 1) / CLASSES),
        panels((p.width + PIXELS - 1) / PIXELS) {}
  int64_t queries, blocks, panels;
};

// A worker's scratch: a row of mask logits between two rows of cells, one of pixels, where pixels
// lie between cells, the mask probabilities of a row of pixels in panels of PIXELS, and a tile.
struct Scratch {
  Scratch(const ArtaScores& p, const Sizes& s, void* memory) : arena(memory) {
    cells = arena.take<real>(p.columns);
    pixels = arena.take<real>(s.panels * PIXELS + LANES);
    share = arena.take<real>(s.panels * PIXELS);
    left = arena.take<int32_t>(s.panels * PIXELS);
    right = arena.take<int32_t>(s.panels * PIXELS);
    masks = arena.take<real>(s.panels * s.queries * PIXELS);
    edge = arena.take<real>(CLASSES * PIXELS);
  }
  Arena arena;
  real *cells, *pixels, *share, *masks, *edge;
  int32_t *left, *right;
};

// The two cells that pixel `at` lies between, and how far it is on its way to the second.
ARTA_INLINE real between(int64_t at, double step, int64_t count, int64_t& low, int64_t& high) {
  double place = (static_cast<double>(at) + 0.5) * step - 0.5;
  if (place < 0) place = 0;
  low = static_cast<int64_t>(place);
  if (low > count - 1) low = count - 1;
  high = low + 1 < count ? low + 1 : low;
  return static_cast<real>(place - static_cast<double>(low));
}

ARTA_INLINE Vec sigmoid(Vec x) {
  // In this order, what is not a number stays so.
  const Vec negative = minimum(splat(LARGEST), maximum(splat(-LARGEST), splat(0) - x));
  return splat(1) / (exponential(negative) + 1);
}

int64_t scratch(const ArtaScores& p) { return Scratch(p, Sizes(p), nullptr).arena.used(); }

int64_t packed(const ArtaScores& p) {
  const Sizes s(p);
  return s.blocks * s.queries * CLASSES;
}

void pack(const ArtaScores& p, void* to, int64_t image) {
  const Sizes s(p);
  const real* from = static_cast<const real*>(p.class_probs) + image * p.queries * p.classes;
  real* out = static_cast<real*>(to);
  for (int64_t block = 0; block < s.blocks; ++block)
    for (int64_t q = 0; q < p.queries; ++q)
      for (int64_t i = 0; i < CLASSES; ++i) {
        const int64_t c = block * CLASSES + i;
        *out++ = c < p.classes ? from[q * p.classes + c] : 0;
      }
}

// Mask probabilities of all queries in a row of pixels.
void probabilities(const ArtaScores& p, const Sizes& s, const Scratch& mine, int64_t image,
                   int64_t y) {
  int64_t above, below;
  const real down = between(y, p.step_y, p.rows, above, below);
  for (int64_t x = 0; x < s.panels * PIXELS; ++x) {
    int64_t low, high;
    mine.share[x] = between(x, p.step_x, p.columns, low, high);
    mine.left[x] = static_cast<int32_t>(low);
    mine.right[x] = static_cast<int32_t>(high);
  }
  const real* logits = static_cast<const real*>(p.mask_logits);
  logits += image * p.queries * p.rows * p.columns;
  for (int64_t q = 0; q < p.queries; ++q) {
    const real* upper = logits + (q * p.rows + above) * p.columns;
    const real* lower = logits + (q * p.rows + below) * p.columns;
    for (int64_t x = 0; x < p.columns; ++x)
      mine.cells[x] = upper[x] * (1 - down) + lower[x] * down;
    for (int64_t x = 0; x < s.panels * PIXELS; ++x)
      mine.pixels[x] = mine.cells[mine.left[x]] * (1 - mine.share[x]) +
                       mine.cells[mine.right[x]] * mine.share[x];
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      real* to = mine.masks + (panel * s.queries + q) * PIXELS;
      const real* from = mine.pixels + panel * PIXELS;
      for (int x = 0; x < PIXELS; x += LANES) store(to + x, sigmoid(load(from + x)));
    }
  }
}

// Scores of CLASSES classes in PIXELS pixels, `stride` numbers from class to class.
ARTA_INLINE void tile(const real* weights, const real* masks, int64_t queries, real* to,
                      int64_t stride) {
  Wide sum[CLASSES][VECTORS] = {};
  for (int64_t q = 0; q < queries; ++q)
    for (int v = 0; v < VECTORS; ++v) {
      Wide mask;
      __builtin_memcpy(&mask, masks + q * PIXELS + v * WIDE_LANES, sizeof(mask));
      for (int i = 0; i < CLASSES; ++i) sum[i][v] += weights[q * CLASSES + i] * mask;
    }
  for (int i = 0; i < CLASSES; ++i)
    for (int v = 0; v < VECTORS; ++v)
      __builtin_memcpy(to + i * stride + v * WIDE_LANES, &sum[i][v], sizeof(Wide));
}

void row(const ArtaScores& p, const void* weights, void* out, int64_t image, int64_t y,
         void* memory) {
  const Sizes s(p);
  const Scratch mine(p, s, memory);
  probabilities(p, s, mine, image, y);
  const int64_t plane = p.height * p.width;
  real* first = static_cast<real*>(out) + image * p.classes * plane + y * p.width;
  for (int64_t block = 0; block < s.blocks; ++block) {
    const int64_t rest = p.classes - block * CLASSES;
    const real* w = static_cast<const real*>(weights) + block * s.queries * CLASSES;
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      const real* masks = mine.masks + panel * s.queries * PIXELS;
      const int64_t x = panel * PIXELS, pixels = p.width - x;
      real* to = first + block * CLASSES * plane + x;
      if (rest >= CLASSES && pixels >= PIXELS) {
        tile(w, masks, s.queries, to, plane);
        continue;
      }
      // The last classes or pixels: not all of the tile are there.
      tile(w, masks, s.queries, mine.edge, PIXELS);
      for (int64_t i = 0; i < CLASSES && i < rest; ++i)
        for (int64_t j = 0; j < PIXELS && j < pixels; ++j)
          to[i * plane + j] = mine.edge[i * PIXELS + j];
    }
  }
}

}  // namespace

extern const arta::ScoreKernels ARTA_TABLE;
const arta::ScoreKernels ARTA_TABLE = {scratch, row, packed, pack};
