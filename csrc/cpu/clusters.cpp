// Balanced clusters: tokens sorted along a grid of anchors.
//
// Compiled without contraction of products and sums: keys must round as separate operations do,
// or ties would fall differently.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "guard.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"
#include "reverse_index.h"

namespace {

constexpr int64_t TOKENS_PER_PART = 1024;
constexpr int64_t CELLS_PER_PART = 256;

struct Cell {
  int64_t row, column;
};

// The anchors of one image: a grid walked row by row with alternating direction.
struct Anchors {
  int64_t rows, columns, first;  // number of the first anchor among those of all images

  Anchors(int64_t count, int64_t height, int64_t width, int64_t cluster_size, int64_t first)
      : first(first) {
    const double clusters = std::max(
        std::floor((static_cast<double>(count) + static_cast<double>(cluster_size - 1)) /
                   static_cast<double>(cluster_size)),
        1.0);
    const double side = std::sqrt(static_cast<double>(height * width) / clusters);
    rows = static_cast<int64_t>(std::max(std::nearbyint(static_cast<double>(height) / side), 1.0));
    columns =
        static_cast<int64_t>(std::max(std::nearbyint(static_cast<double>(width) / side), 1.0));
  }

  int64_t last() const { return rows * columns - 1; }

  // Where anchor number `rank` of the walk is. The walk's ends are continued by one step in the
  // direction they have; a single anchor is continued along x.
  Cell at(int64_t rank) const {
    if (rank < 0) {
      const Cell one = last() ? inside(1) : Cell{0, 1};
      return {-one.row, -one.column};
    }
    if (rank > last()) {
      const Cell end = inside(last());
      if (!last()) return {end.row, end.column + 1};
      const Cell before = inside(last() - 1);
      return {2 * end.row - before.row, 2 * end.column - before.column};
    }
    return inside(rank);
  }

  Cell inside(int64_t rank) const {
    const int64_t row = rank / columns, column = rank - row * columns;
    return {row, row % 2 ? columns - 1 - column : column};
  }
};

struct Key {
  int64_t anchor;
  float ratio;
};

// Of a place inside the canvas.
Key key_of(const Anchors& a, int64_t x, int64_t y, int64_t height, int64_t width) {
  const int64_t column = std::min(x * a.columns / width, a.columns - 1);
  const int64_t row = std::min(y * a.rows / height, a.rows - 1);
  const int64_t rank = row * a.columns + (row % 2 ? a.columns - 1 - column : column);
  // Anchor i of n sits at ((2 i + 1) size / n - 1) / 2. Everything times 2 * rows * columns is an
  // integer, so mirror-symmetric places tie exactly.
  const auto squared = [&](Cell c) {
    const int64_t dx = (2 * a.columns * x - (2 * c.column + 1) * width + a.columns) * a.rows;
    const int64_t dy = (2 * a.rows * y - (2 * c.row + 1) * height + a.rows) * a.columns;
    return static_cast<double>(dx * dx + dy * dy);
  };
  const double eps = 1e-5 * static_cast<double>(4 * a.rows * a.rows * a.columns * a.columns);
  const double ratio = squared(a.at(rank - 1)) / (squared(a.at(rank + 1)) + eps);
  return {a.first + rank, static_cast<float>(ratio)};
}

// Whether all products in a key are numbers of 64 bits: a token is less than two cells from the
// anchors that its key compares.
bool countable(const Anchors& a, int64_t height, int64_t width) {
  const int64_t most = int64_t{1} << 28, wide = arta::product(width, a.rows),
                high = arta::product(height, a.columns);
  return wide >= 0 && wide < most && high >= 0 && high < most &&
         arta::is_size(arta::product(2, a.columns, width)) &&
         arta::is_size(arta::product(2, a.rows, height));
}

void write_starts(const int64_t* counts, int64_t images, int64_t total, int64_t cluster_size,
                  int64_t* start) {
  const int64_t size = total / cluster_size + images + 1;
  int64_t cluster = 0, row = 0;
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t done = 0; done < counts[image] && cluster < size; done += cluster_size)
      start[cluster++] = row + done;
    row += counts[image];
  }
  std::fill(start + std::min(cluster, size), start + size, total);
}

int balanced_clusters(const int32_t* xy, const int64_t* batch, int64_t total, const int64_t* counts,
                      int64_t images, int64_t height, int64_t width, int64_t cluster_size,
                      int64_t* order, int64_t* start, int64_t threads) {
  if (total < 0 || images < 0 || !arta::is_size(cluster_size) || cluster_size < 1 ||
      !arta::is_size(height) || height < 1 || !arta::is_size(width) || width < 1)
    return ARTA_BAD_SIZE;
  int64_t counted = 0;
  for (int64_t image = 0; image < images; ++image) {
    if (counts[image] < 0 || counts[image] > total - counted) return ARTA_BAD_INDEX;
    counted += counts[image];
  }
  if (counted != total) return ARTA_BAD_INDEX;
  write_starts(counts, images, total, cluster_size, start);
  std::vector<Anchors> anchors;
  int64_t cells = 0;
  for (int64_t image = 0; image < images; ++image) {
    anchors.emplace_back(counts[image], height, width, cluster_size, cells);
    if (!countable(anchors.back(), height, width)) return ARTA_BAD_SIZE;
    cells += anchors.back().last() + 1;
  }
  std::vector<Key> keys(static_cast<size_t>(total));
  std::atomic<bool> valid{true};
  auto key = [&](int64_t, int64_t part) {
    const int64_t end = std::min((part + 1) * TOKENS_PER_PART, total);
    for (int64_t t = part * TOKENS_PER_PART; t < end; ++t) {
      const int32_t x = xy[2 * t], y = xy[2 * t + 1];
      if (batch[t] >= 0 && batch[t] < images && x >= 0 && x < width && y >= 0 && y < height)
        keys[static_cast<size_t>(t)] = key_of(anchors[static_cast<size_t>(batch[t])], x, y, height, width);
      else
        valid = false;
    }
  };
  arta::parallel(arta::parts_of(total, TOKENS_PER_PART), threads, key);
  if (!valid) return ARTA_BAD_INDEX;

  // By anchor first, then every anchor's few tokens by their ratio.
  arta::ReverseIndex<int64_t> tokens;
  const auto anchor = [&](int64_t t) { return keys[static_cast<size_t>(t)].anchor; };
  if (!tokens.build(total, 1, cells, threads, anchor)) return ARTA_NO_MEMORY;
  for (int64_t image = 0; image < images; ++image) {
    const Anchors& own = anchors[static_cast<size_t>(image)];
    if (tokens.first[own.first + own.last() + 1] - tokens.first[own.first] != counts[image])
      return ARTA_BAD_INDEX;
  }
  const auto before = [&](int64_t a, int64_t b) {
    const float x = keys[static_cast<size_t>(a)].ratio, y = keys[static_cast<size_t>(b)].ratio;
    return x < y || (x == y && a < b);
  };
  auto sort = [&](int64_t, int64_t part) {
    const int64_t end = std::min((part + 1) * CELLS_PER_PART, cells);
    for (int64_t cell = part * CELLS_PER_PART; cell < end; ++cell)
      std::sort(tokens.items.get() + tokens.first[cell], tokens.items.get() + tokens.first[cell + 1],
                before);
    const int64_t from = tokens.first[part * CELLS_PER_PART];
    std::copy(tokens.items.get() + from, tokens.items.get() + tokens.first[end], order + from);
  };
  arta::parallel(arta::parts_of(cells, CELLS_PER_PART), threads, sort);
  return 0;
}

}  // namespace

ARTA_INTERFACE(balanced_clusters, 2)

// `order` (T,): tokens by image and cluster. `start` (T / cluster_size + B + 1,): first row of
// every cluster. `xy` (T, 2); `batch` (T,) image of every token; `counts` (B,) tokens per image.
ARTA_API int arta_balanced_clusters(const int32_t* xy, const int64_t* batch, int64_t total,
                                    const int64_t* counts, int64_t images, int64_t height,
                                    int64_t width, int64_t cluster_size, int64_t* order,
                                    int64_t* start, int64_t threads) {
  return arta::guarded([&] {
    return balanced_clusters(xy, batch, total, counts, images, height, width, cluster_size, order,
                             start, threads);
  });
}
