// The nearest clusters of every token, exactly: a grid of buckets, searched ring by ring.
//
// Compiled without contraction of products and sums: distances must round as separate
// operations do, or ties would fall differently.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "interface.h"
#include "parallel.h"

namespace {

struct Center {
  double x, y;
  int64_t index;
};

// The cluster centres of one image, sorted by bucket.
class Grid {
 public:
  Grid(const int32_t* xy, const int64_t* start, int64_t first, int64_t count) {
    std::vector<Center> centers(static_cast<size_t>(count));
    double high_x = -std::numeric_limits<double>::infinity(), high_y = high_x;
    low_x_ = low_y_ = std::numeric_limits<double>::infinity();
    for (int64_t c = 0; c < count; ++c) {
      int64_t sum_x = 0, sum_y = 0;
      const int64_t begin = start[first + c], end = start[first + c + 1];
      for (int64_t row = begin; row < end; ++row) {
        sum_x += xy[2 * row];
        sum_y += xy[2 * row + 1];
      }
      const double members = static_cast<double>(std::max<int64_t>(end - begin, 1));
      const Center center = {static_cast<double>(sum_x) / members,
                             static_cast<double>(sum_y) / members, first + c};
      centers[static_cast<size_t>(c)] = center;
      low_x_ = std::min(low_x_, center.x);
      low_y_ = std::min(low_y_, center.y);
      high_x = std::max(high_x, center.x);
      high_y = std::max(high_y, center.y);
    }
    // About one centre per bucket; a side of at least 1 bounds the grid for one place or a line.
    const double width = high_x - low_x_, height = high_y - low_y_;
    const double per_area = std::sqrt(width * height / static_cast<double>(count));
    const double per_line = std::max(width, height) / static_cast<double>(count);
    side_ = std::max({per_area, per_line, 1.0});
    columns_ = static_cast<int64_t>(width / side_) + 1;
    rows_ = static_cast<int64_t>(height / side_) + 1;

    first_.assign(static_cast<size_t>(columns_ * rows_ + 1), 0);
    std::vector<int64_t> bucket(centers.size());
    for (size_t c = 0; c < centers.size(); ++c) {
      bucket[c] = row_of(centers[c].y) * columns_ + column_of(centers[c].x);
      ++first_[static_cast<size_t>(bucket[c] + 1)];
    }
    for (size_t b = 1; b < first_.size(); ++b) first_[b] += first_[b - 1];
    std::vector<int64_t> next(first_.begin(), first_.end() - 1);
    sorted_.resize(centers.size());
    for (size_t c = 0; c < centers.size(); ++c)
      sorted_[static_cast<size_t>(next[static_cast<size_t>(bucket[c])]++)] = centers[c];
  }

  // Writes the `width` nearest centres; `distance` is room for as many numbers.
  void search(double x, double y, int64_t width, double* distance, int64_t* nearest) const {
    const int64_t column = column_of(x), row = row_of(y);
    const int64_t rings = std::max({column, columns_ - 1 - column, row, rows_ - 1 - row});
    int64_t found = 0;
    for (int64_t ring = 0; ring <= rings; ++ring) {
      if (found == width) {
        // Centres not seen yet lie outside the square of the rings searched so far.
        const double reach = outside(x, y, column, row, ring - 1);
        if (reach > 0 && distance[width - 1] < reach * reach) return;
      }
      const int64_t top = row - ring, bottom = row + ring;
      for (int64_t r = std::max<int64_t>(top, 0); r <= std::min(bottom, rows_ - 1); ++r) {
        const bool edge = r == top || r == bottom;
        if (edge) {
          visit(r, column - ring, column + ring, x, y, width, distance, nearest, found);
        } else {
          visit(r, column - ring, column - ring, x, y, width, distance, nearest, found);
          visit(r, column + ring, column + ring, x, y, width, distance, nearest, found);
        }
      }
    }
  }

 private:
  int64_t column_of(double x) const { return bucket_of(x - low_x_, columns_); }
  int64_t row_of(double y) const { return bucket_of(y - low_y_, rows_); }
  int64_t bucket_of(double along, int64_t count) const {
    return static_cast<int64_t>(
        std::min(std::max(along / side_, 0.0), static_cast<double>(count - 1)));
  }

  // No centre outside the square of `ring` rings around a bucket is nearer than this. A little
  // less than the exact bound, so that no rounding can make it too large.
  double outside(double x, double y, int64_t column, int64_t row, int64_t ring) const {
    double reach = std::numeric_limits<double>::infinity();
    if (column - ring > 0)
      reach = std::min(reach, x - (low_x_ + side_ * static_cast<double>(column - ring)));
    if (column + ring < columns_ - 1)
      reach = std::min(reach, low_x_ + side_ * static_cast<double>(column + ring + 1) - x);
    if (row - ring > 0)
      reach = std::min(reach, y - (low_y_ + side_ * static_cast<double>(row - ring)));
    if (row + ring < rows_ - 1)
      reach = std::min(reach, low_y_ + side_ * static_cast<double>(row + ring + 1) - y);
    return reach - 1e-6;
  }

  void visit(int64_t row, int64_t from, int64_t to, double x, double y, int64_t width,
             double* distance, int64_t* nearest, int64_t& found) const {
    from = std::max<int64_t>(from, 0);
    to = std::min(to, columns_ - 1);
    if (from > to) return;
    const int64_t begin = first_[static_cast<size_t>(row * columns_ + from)];
    const int64_t end = first_[static_cast<size_t>(row * columns_ + to + 1)];
    for (int64_t i = begin; i < end; ++i) {
      const Center& center = sorted_[static_cast<size_t>(i)];
      const double dx = x - center.x, dy = y - center.y;
      const double d = dx * dx + dy * dy;
      const auto before = [&](int64_t place) {
        return d < distance[place] || (d == distance[place] && center.index < nearest[place]);
      };
      if (found == width && !before(width - 1)) continue;
      int64_t place = found < width ? found++ : width - 1;
      for (; place > 0 && before(place - 1); --place) {
        distance[place] = distance[place - 1];
        nearest[place] = nearest[place - 1];
      }
      distance[place] = d;
      nearest[place] = center.index;
    }
  }

  double low_x_, low_y_, side_;
  int64_t columns_, rows_;
  std::vector<int64_t> first_;
  std::vector<Center> sorted_;
};

constexpr int64_t ROWS_PER_PART = 256;

}  // namespace

ARTA_API int arta_nearest_clusters(const int32_t* xy, const int64_t* start, int64_t clusters,
                                   const int64_t* lengths, int64_t images, int64_t cluster_size,
                                   int64_t width, int64_t* nearest, int64_t threads) try {
  int64_t row = 0, first = 0;
  std::vector<double> distances(
      static_cast<size_t>(width * std::max<int64_t>(threads, 1)));
  for (int64_t image = 0; image < images; ++image) {
    const int64_t length = lengths[image];
    const int64_t own = std::min((length + cluster_size - 1) / cluster_size, clusters - first);
    const int64_t found = std::min(own, width);
    if (own > 0) {
      const Grid grid(xy, start, first, own);
      auto job = [&](int64_t worker, int64_t part) {
        const int64_t end = std::min((part + 1) * ROWS_PER_PART, length);
        for (int64_t i = row + part * ROWS_PER_PART; i < row + end; ++i) {
          int64_t* to = nearest + i * width;
          grid.search(xy[2 * i], xy[2 * i + 1], found, distances.data() + worker * width, to);
          std::fill(to + found, to + width, -1);
        }
      };
      arta::parallel((length + ROWS_PER_PART - 1) / ROWS_PER_PART, threads, job);
    }
    row += length;
    first += own;
  }
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}
