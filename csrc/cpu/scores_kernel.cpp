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
typedef mask WideMask __attribute__((vector_size(ARTA_WIDE)));
constexpr int WIDE_LANES = ARTA_WIDE / static_cast<int>(sizeof(real));
constexpr int PIXELS = VECTORS * WIDE_LANES;
static_assert(PIXELS % LANES == 0, "panels are filled LANES pixels at a time");

constexpr real LARGEST = 80;  // sigmoid(-80) is 0 to all digits that sums of it have

// Columns of pixels that are handled together: what they need stays in a second-level cache.
constexpr int64_t STRIP = 512;
static_assert(STRIP % PIXELS == 0, "strips begin where panels do");

// A strip of `width` columns: queries, blocks of classes, panels of pixels.
struct Sizes {
  Sizes(const ArtaScores& p, int64_t width)
      : queries(p.queries), blocks((p.classes + CLASSES - 1) / CLASSES), width(width),
        panels((width + PIXELS - 1) / PIXELS) {}
  int64_t queries, blocks, width, panels;
};

// A worker's scratch: where pixels lie between cells, the mask logits of two rows of cells at the
// places of pixels, the mask probabilities of a row of pixels in panels of PIXELS, and a tile.
struct Scratch {
  Scratch(const Sizes& s, void* memory) : arena(memory) {
    const int64_t pixels = s.panels * PIXELS;
    share = arena.take<real>(pixels);
    left = arena.take<int32_t>(pixels);
    right = arena.take<int32_t>(pixels);
    upper = arena.take<real>(s.queries * pixels);
    lower = arena.take<real>(s.queries * pixels);
    masks = arena.take<real>(s.queries * pixels);
    edge = arena.take<real>(CLASSES * PIXELS);
  }
  Arena arena;
  real *share, *upper, *lower, *masks, *edge;
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

ARTA_INLINE Wide sigmoid(Wide x) {
  // In this order, what is not a number stays so.
  Wide negative = -x < -LARGEST ? Wide{} - LARGEST : -x;
  negative = negative > LARGEST ? Wide{} + LARGEST : negative;
  return 1 / (exponential_lanes<Wide, WideMask>(negative) + 1);
}

int64_t scratch(const ArtaScores& p) {
  return Scratch(Sizes(p, p.width < STRIP ? p.width : STRIP), nullptr).arena.used();
}

int64_t packed(const ArtaScores& p) {
  const Sizes s(p, 0);
  return s.blocks * s.queries * CLASSES;
}

void pack(const ArtaScores& p, void* to, int64_t image) {
  const Sizes s(p, 0);
  const real* from = static_cast<const real*>(p.class_probs) + image * p.queries * p.classes;
  real* out = static_cast<real*>(to);
  for (int64_t block = 0; block < s.blocks; ++block)
    for (int64_t q = 0; q < p.queries; ++q)
      for (int64_t i = 0; i < CLASSES; ++i) {
        const int64_t c = block * CLASSES + i;
        *out++ = c < p.classes ? from[q * p.classes + c] : 0;
      }
}

// Mask logits of all queries in a row of cells, at the places of pixels.
void spread(const ArtaScores& p, const Sizes& s, const Scratch& mine, const real* logits,
            real* to) {
  const int64_t pixels = s.panels * PIXELS;
  for (int64_t q = 0; q < p.queries; ++q, logits += p.rows * p.columns, to += pixels)
    for (int64_t x = 0; x < pixels; ++x)
      to[x] = logits[mine.left[x]] * (1 - mine.share[x]) + logits[mine.right[x]] * mine.share[x];
}

// Mask probabilities of all queries in a row of pixels that is `down` of the way from one row of
// cells to the next.
void probabilities(const Sizes& s, const Scratch& mine, real down) {
  const real up = 1 - down;
  for (int64_t q = 0; q < s.queries; ++q)
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      const int64_t from = (q * s.panels + panel) * PIXELS;
      real* to = mine.masks + (panel * s.queries + q) * PIXELS;
      for (int x = 0; x < PIXELS; x += WIDE_LANES) {
        Wide upper, lower;
        __builtin_memcpy(&upper, mine.upper + from + x, sizeof(Wide));
        __builtin_memcpy(&lower, mine.lower + from + x, sizeof(Wide));
        const Wide result = sigmoid(upper * up + lower * down);
        __builtin_memcpy(to + x, &result, sizeof(Wide));
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

// Scores of a row of pixels from its mask probabilities.
void products(const ArtaScores& p, const Sizes& s, const Scratch& mine, const real* weights,
              real* first) {
  const int64_t plane = p.height * p.width;
  for (int64_t block = 0; block < s.blocks; ++block) {
    const int64_t rest = p.classes - block * CLASSES;
    const real* w = weights + block * s.queries * CLASSES;
    for (int64_t panel = 0; panel < s.panels; ++panel) {
      const real* masks = mine.masks + panel * s.queries * PIXELS;
      const int64_t x = panel * PIXELS, pixels = s.width - x;
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

void rows(const ArtaScores& p, const void* weights, void* out, int64_t image, int64_t begin,
          int64_t end, void* memory) {
  const real* logits = static_cast<const real*>(p.mask_logits);
  logits += image * p.queries * p.rows * p.columns;
  real* to = static_cast<real*>(out) + image * p.classes * p.height * p.width;
  for (int64_t first = 0; first < p.width; first += STRIP) {
    const Sizes s(p, p.width - first < STRIP ? p.width - first : STRIP);
    const Scratch mine(s, memory);
    for (int64_t x = 0; x < s.panels * PIXELS; ++x) {
      int64_t low, high;
      mine.share[x] = between(first + x, p.step_x, p.columns, low, high);
      mine.left[x] = static_cast<int32_t>(low);
      mine.right[x] = static_cast<int32_t>(high);
    }
    int64_t last = -1;
    for (int64_t y = begin; y < end; ++y) {
      int64_t above, below;
      const real down = between(y, p.step_y, p.rows, above, below);
      if (above != last) {
        spread(p, s, mine, logits + above * p.columns, mine.upper);
        spread(p, s, mine, logits + below * p.columns, mine.lower);
        last = above;
      }
      probabilities(s, mine, down);
      products(p, s, mine, static_cast<const real*>(weights), to + y * p.width + first);
    }
  }
}

}  // namespace

extern const arta::ScoreKernels ARTA_TABLE;
const arta::ScoreKernels ARTA_TABLE = {scratch, rows, packed, pack};
