// The nearest clusters of every token and the nearest tokens of every place, exactly.
//
// Compiled without contraction of products and sums: distances must round as separate
// operations do, or ties would fall differently.
#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#include "grid.h"
#include "guard.h"
#include "interface.h"
#include "memory.h"
#include "parallel.h"

namespace {

constexpr int64_t PLACES_PER_PART = 256;

// For one image: the `width` nearest points of every place, -1 where there are fewer. `place(i)`
// gives the coordinates of place i; `distances` is room for as many numbers
// per worker as points are found.
template <class Place>
void search_all(const std::vector<arta::Point>& points, int64_t places, const Place& place,
                int64_t width, double* distances, int64_t* nearest, int64_t threads) {
  const int64_t found = std::min(static_cast<int64_t>(points.size()), width);
  if (found == 0) {
    std::fill(nearest, nearest + places * width, -1);
    return;
  }
  const arta::Grid grid(points);
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t end = std::min((part + 1) * PLACES_PER_PART, places);
    for (int64_t i = part * PLACES_PER_PART; i < end; ++i) {
      const arta::Point at = place(i);
      int64_t* to = nearest + i * width;
      grid.search(at.x, at.y, found, distances + worker * found, to);
      std::fill(to + found, to + width, -1);
    }
  };
  arta::parallel(arta::parts_of(places, PLACES_PER_PART), threads, job);
}

// Room for the distances of `width` points of every worker, but of no more than there are.
std::vector<double> room(int64_t width, int64_t points, int64_t threads) {
  const int64_t all = arta::product(std::min(width, points), std::max<int64_t>(threads, 1));
  if (all < 0) throw std::bad_alloc();
  return std::vector<double>(static_cast<size_t>(all));
}

// Coordinates are at most so far from 0: numbers that double precision counts one by one.
constexpr double FARTHEST = 9007199254740992.0;

bool near_enough(const double* places, int64_t count) {
  bool valid = true;
  for (int64_t i = 0; i < 2 * count; ++i)
    valid &= places[i] >= -FARTHEST && places[i] <= FARTHEST;  // neither infinite nor NaN
  return valid;
}

// Whether lengths of images are those of `total` rows.
bool add_up(const int64_t* lengths, int64_t images, int64_t total) {
  for (int64_t image = 0; image < images; ++image) {
    if (lengths[image] < 0 || lengths[image] > total) return false;
    total -= lengths[image];
  }
  return total == 0;
}

// The means of the members of clusters first..first+count-1.
std::vector<arta::Point> cluster_centers(const int32_t* xy, const int64_t* start, int64_t first,
                                         int64_t count) {
  std::vector<arta::Point> centers(static_cast<size_t>(std::max<int64_t>(count, 0)));
  for (int64_t c = 0; c < count; ++c) {
    int64_t sum_x = 0, sum_y = 0;
    const int64_t begin = start[first + c], end = start[first + c + 1];
    for (int64_t row = begin; row < end; ++row) {
      sum_x += xy[2 * row];
      sum_y += xy[2 * row + 1];
    }
    const double members = static_cast<double>(std::max<int64_t>(end - begin, 1));
    centers[static_cast<size_t>(c)] = {static_cast<double>(sum_x) / members,
                                       static_cast<double>(sum_y) / members, first + c};
  }
  return centers;
}

int nearest_clusters(const int32_t* xy, int64_t total, const int64_t* start, int64_t clusters,
                     const int64_t* lengths, int64_t images, int64_t cluster_size, int64_t width,
                     int64_t* nearest, int64_t threads) {
  if (total < 0 || images < 0 || clusters < 0 || width < 0 || width > clusters ||
      cluster_size < 1 || !add_up(lengths, images, total))
    return ARTA_BAD_SIZE;
  int64_t needed = 0;
  for (int64_t image = 0; image < images; ++image)
    needed += arta::parts_of(lengths[image], cluster_size);
  if (needed > clusters) return ARTA_BAD_SIZE;
  int64_t row = 0, first = 0;
  std::vector<double> distances = room(width, clusters, threads);
  for (int64_t image = 0; image < images; ++image) {
    const int64_t own = arta::parts_of(lengths[image], cluster_size);
    // An image's clusters are its rows, none of them empty.
    if (own && start[first] != row) return ARTA_BAD_INDEX;
    for (int64_t c = first; c < first + own; ++c)
      if (start[c] < row || start[c] >= start[c + 1] || start[c + 1] > row + lengths[image])
        return ARTA_BAD_INDEX;
    if (own && start[first + own] != row + lengths[image]) return ARTA_BAD_INDEX;
    const auto place = [&](int64_t i) {
      return arta::Point{static_cast<double>(xy[2 * (row + i)]),
                         static_cast<double>(xy[2 * (row + i) + 1]), 0};
    };
    search_all(cluster_centers(xy, start, first, own), lengths[image], place, width,
               distances.data(), nearest + row * width, threads);
    row += lengths[image];
    first += own;
  }
  return 0;
}

int nearest_tokens(const double* places, int64_t places_total, const int64_t* place_lengths,
                   const double* centers, int64_t total, const int64_t* lengths, int64_t images,
                   int64_t k, int64_t* nearest, int64_t threads) {
  if (places_total < 0 || total < 0 || images < 0 || k < 0 ||
      !add_up(place_lengths, images, places_total) || !add_up(lengths, images, total) ||
      arta::product(places_total, k) < 0)
    return ARTA_BAD_SIZE;
  if (!near_enough(places, places_total) || !near_enough(centers, total)) return ARTA_BAD_INDEX;
  int64_t row = 0, first = 0;
  std::vector<double> distances = room(k, total, threads);
  for (int64_t image = 0; image < images; ++image) {
    std::vector<arta::Point> points(static_cast<size_t>(lengths[image]));
    for (int64_t i = 0; i < lengths[image]; ++i)
      points[static_cast<size_t>(i)] = {centers[2 * (first + i)], centers[2 * (first + i) + 1],
                                        first + i};
    const auto place = [&](int64_t i) {
      return arta::Point{places[2 * (row + i)], places[2 * (row + i) + 1], 0};
    };
    search_all(points, place_lengths[image], place, k, distances.data(), nearest + row * k,
               threads);
    row += place_lengths[image];
    first += lengths[image];
  }
  return 0;
}

}  // namespace

ARTA_INTERFACE(nearest_clusters, 2)

// The `width` nearest clusters of every row, by squared distance to the mean of the members in
// double precision, equal distances by index; -1 where an image has fewer clusters.
// `lengths` (images,) are rows per image; `nearest` (T, width).
ARTA_API int arta_nearest_clusters(const int32_t* xy, int64_t total, const int64_t* start,
                                   int64_t clusters, const int64_t* lengths, int64_t images,
                                   int64_t cluster_size, int64_t width, int64_t* nearest,
                                   int64_t threads) {
  return arta::guarded([&] {
    return nearest_clusters(xy, total, start, clusters, lengths, images, cluster_size, width,
                            nearest, threads);
  });
}

ARTA_INTERFACE(nearest_tokens, 2)

// The k nearest of an image's centers (V, 2) for every place (P, 2), by squared distance in double
// precision, equal distances by row; -1 where an image has fewer. `nearest` (P, k).
ARTA_API int arta_nearest_tokens(const double* places, int64_t places_total,
                                 const int64_t* place_lengths, const double* centers,
                                 int64_t total, const int64_t* lengths, int64_t images, int64_t k,
                                 int64_t* nearest, int64_t threads) {
  return arta::guarded([&] {
    return nearest_tokens(places, places_total, place_lengths, centers, total, lengths, images, k,
                          nearest, threads);
  });
}
