// Points in a grid of buckets, searched ring by ring.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace arta {

struct Point {
  double x, y;
  int64_t index;
};

// About one point per bucket. The buckets are held by rows and by columns, so that each side of a
// ring is one range, and rings without points cost four looks whatever their size.
class Grid {
 public:
  explicit Grid(const std::vector<Point>& points) {
    double high_x = -std::numeric_limits<double>::infinity(), high_y = high_x;
    low_x_ = low_y_ = std::numeric_limits<double>::infinity();
    for (const Point& point : points) {
      low_x_ = std::min(low_x_, point.x);
      low_y_ = std::min(low_y_, point.y);
      high_x = std::max(high_x, point.x);
      high_y = std::max(high_y, point.y);
    }
    const double width = high_x - low_x_, height = high_y - low_y_;
    const double count = static_cast<double>(points.size());
    // A side of at least 1 bounds the grid for one place or a line.
    side_ = std::max({std::sqrt(width * height / count), std::max(width, height) / count, 1.0});
    columns_ = static_cast<int64_t>(width / side_) + 1;
    rows_ = static_cast<int64_t>(height / side_) + 1;
    by_rows_.fill(points, columns_ * rows_,
                  [&](const Point& p) { return row_of(p.y) * columns_ + column_of(p.x); });
    by_columns_.fill(points, columns_ * rows_,
                     [&](const Point& p) { return column_of(p.x) * rows_ + row_of(p.y); });
  }

  // Writes the `width` nearest points, by squared distance and then by index; the grid holds as
  // many. `distance` is room for `width` numbers.
  void search(double x, double y, int64_t width, double* distance, int64_t* nearest) const {
    const int64_t column = column_of(x), row = row_of(y);
    const int64_t rings = std::max({column, columns_ - 1 - column, row, rows_ - 1 - row});
    Found found = {x, y, width, distance, nearest, 0};
    for (int64_t ring = 0; ring <= rings; ++ring) {
      if (found.count == width) {
        // Points not seen yet lie outside the square of the rings searched so far.
        const double reach = outside(x, y, column, row, ring - 1);
        if (reach > 0 && distance[width - 1] < reach * reach) return;
      }
      visit(by_rows_, rows_, columns_, row - ring, column - ring, column + ring, found);
      if (ring == 0) continue;
      visit(by_rows_, rows_, columns_, row + ring, column - ring, column + ring, found);
      visit(by_columns_, columns_, rows_, column - ring, row - ring + 1, row + ring - 1, found);
      visit(by_columns_, columns_, rows_, column + ring, row - ring + 1, row + ring - 1, found);
    }
  }

 private:
  struct Buckets {
    std::vector<int64_t> first;
    std::vector<Point> sorted;

    template <class Bucket>
    void fill(const std::vector<Point>& points, int64_t count, const Bucket& bucket_of) {
      first.assign(static_cast<size_t>(count + 1), 0);
      std::vector<int64_t> bucket(points.size());
      for (size_t i = 0; i < points.size(); ++i) {
        bucket[i] = bucket_of(points[i]);
        ++first[static_cast<size_t>(bucket[i] + 1)];
      }
      for (size_t b = 1; b < first.size(); ++b) first[b] += first[b - 1];
      std::vector<int64_t> next(first.begin(), first.end() - 1);
      sorted.resize(points.size());
      for (size_t i = 0; i < points.size(); ++i)
        sorted[static_cast<size_t>(next[static_cast<size_t>(bucket[i])]++)] = points[i];
    }
  };

  struct Found {
    double x, y;
    int64_t width;
    double* distance;
    int64_t* nearest;
    int64_t count;
  };

  int64_t column_of(double x) const { return bucket_of(x - low_x_, columns_); }
  int64_t row_of(double y) const { return bucket_of(y - low_y_, rows_); }
  int64_t bucket_of(double along, int64_t count) const {
    return static_cast<int64_t>(
        std::min(std::max(0.0, along / side_), static_cast<double>(count - 1)));
  }

  // No point outside the square of `ring` rings around a bucket is nearer than this. A little
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

  // Looks at buckets from..to of a line.
  static void visit(const Buckets& buckets, int64_t lines, int64_t length, int64_t line,
                    int64_t from, int64_t to, Found& found) {
    from = std::max<int64_t>(from, 0);
    to = std::min(to, length - 1);
    if (line < 0 || line >= lines || from > to) return;
    const int64_t begin = buckets.first[static_cast<size_t>(line * length + from)];
    const int64_t end = buckets.first[static_cast<size_t>(line * length + to + 1)];
    for (int64_t i = begin; i < end; ++i) {
      const Point& point = buckets.sorted[static_cast<size_t>(i)];
      const double dx = found.x - point.x, dy = found.y - point.y;
      const double d = dx * dx + dy * dy;
      const auto before = [&](int64_t place) {
        return d < found.distance[place] ||
               (d == found.distance[place] && point.index < found.nearest[place]);
      };
      if (found.count == found.width && !before(found.width - 1)) continue;
      int64_t place = found.count < found.width ? found.count++ : found.width - 1;
      for (; place > 0 && before(place - 1); --place) {
        found.distance[place] = found.distance[place - 1];
        found.nearest[place] = found.nearest[place - 1];
      }
      found.distance[place] = d;
      found.nearest[place] = point.index;
    }
  }

  double low_x_, low_y_, side_;
  int64_t columns_, rows_;
  Buckets by_rows_, by_columns_;
};

}  // namespace arta
