// Where tokens are: keys of balanced clusters, nearest points.
//
// Compiled without contraction of products and sums: keys and distances must round as separate
// operations do, or ties would fall differently.
#include "common.cuh"

extern "C" {

// Points of several images in grids of side x side buckets.
struct ArtaGrid {
  const double* points;      // (N, 2) sorted by image and bucket
  const int64_t* index;      // (N,) what a point is called
  const int64_t* first;      // (buckets + 1,) first point of every bucket
  const double* low;         // (B, 2) corner of an image's grid
  const double* step;        // (B, 2) size of its buckets
  const int64_t* base;       // (B,) first bucket of an image
  const int64_t* side;       // (B,) buckets along x and along y
  const double* places;      // (P, 2)
  const int64_t* image;      // (P,)
  int64_t* nearest;          // (P, k), -1 for none
  int64_t total;             // P
  int64_t k;
  void* stream;
};

}  // extern "C"

namespace {

using namespace arta;

constexpr int THREADS = 128;

struct Cell {
  int64_t row, column;
};

// The anchors of one image: a grid walked row by row with alternating direction.
struct Anchors {
  int64_t rows, columns;

  __device__ int64_t last() const { return rows * columns - 1; }

  __device__ Cell inside(int64_t rank) const {
    const int64_t row = rank / columns, column = rank - row * columns;
    return {row, row % 2 ? columns - 1 - column : column};
  }

  // Where anchor number `rank` of the walk is. The walk's ends are continued by one step in the
  // direction they have; a single anchor is continued along x.
  __device__ Cell at(int64_t rank) const {
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

  // The squared distance of a token from an anchor, times (2 rows columns)^2: an integer, so that
  // mirror-symmetric places tie exactly.
  __device__ double squared(Cell cell, int64_t x, int64_t y, int64_t height, int64_t width) const {
    const int64_t dx = (2 * columns * x - (2 * cell.column + 1) * width + columns) * rows;
    const int64_t dy = (2 * rows * y - (2 * cell.row + 1) * height + rows) * columns;
    return static_cast<double>(dx * dx + dy * dy);
  }
};

__device__ __forceinline__ int64_t clamped(int64_t value, int64_t count) {
  return value < 0 ? 0 : value < count ? value : count - 1;
}

__global__ void __launch_bounds__(THREADS)
    cluster_keys_kernel(const int32_t* xy, const int64_t* batch, const int64_t* anchors,
                        int64_t total, int64_t images, int64_t height, int64_t width,
                        int64_t* keys) {
  const int64_t token = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  if (token >= total) return;
  if (batch[token] < 0 || batch[token] >= images) {
    keys[token] = INT64_MAX;  // a wrong image must not read elsewhere
    return;
  }
  const int64_t* image = anchors + 3 * batch[token];
  const Anchors a = {image[0], image[1]};
  const int64_t x = xy[2 * token], y = xy[2 * token + 1];
  const int64_t column = clamped(x * a.columns / width, a.columns);
  const int64_t row = clamped(y * a.rows / height, a.rows);
  const int64_t rank = row * a.columns + (row % 2 ? a.columns - 1 - column : column);
  const double eps = 1e-5 * static_cast<double>(4 * a.rows * a.rows * a.columns * a.columns);
  const double ratio = a.squared(a.at(rank - 1), x, y, height, width) /
                       (a.squared(a.at(rank + 1), x, y, height, width) + eps);
  // Non-negative floats order like their bits.
  keys[token] = (image[2] + rank) << 32 | __float_as_int(static_cast<float>(ratio));
}

// The k nearest points found so far, in registers: k is at most K.
template <int K>
struct Found {
  double distance[K];
  int64_t index[K];

  __device__ __forceinline__ void add(double d, int64_t i) {
#pragma unroll
    for (int place = 0; place < K; ++place) {
      // Of equal distances the lowest index.
      if (d < distance[place] || (d == distance[place] && i < index[place])) {
        const double distance_here = distance[place];
        const int64_t index_here = index[place];
        distance[place] = d;
        index[place] = i;
        d = distance_here;
        i = index_here;
      }
    }
  }
};

template <int K>
__device__ __forceinline__ void visit(const ArtaGrid& p, int64_t from, int64_t to, double x,
                                      double y, Found<K>& found) {
  const int64_t end = p.first[to];
#pragma unroll 1
  for (int64_t i = p.first[from]; i < end; ++i) {
    const double dx = x - p.points[2 * i], dy = y - p.points[2 * i + 1];
    found.add(dx * dx + dy * dy, p.index[i]);
  }
}

__device__ __forceinline__ int64_t bucket_of(double along, double step, int64_t side) {
  const double bucket = along / step;
  return bucket > 0 ? clamped(static_cast<int64_t>(fmin(bucket, static_cast<double>(side))), side)
                    : 0;
}

// Searches the buckets around a place ring by ring, until no point farther out can be nearer.
template <int K>
__global__ void __launch_bounds__(THREADS) nearest_kernel(const ArtaGrid p) {
  const int64_t place = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
  if (place >= p.total) return;
  const int64_t image = p.image[place], side = p.side[image], base = p.base[image];
  const double low_x = p.low[2 * image], low_y = p.low[2 * image + 1];
  const double step_x = p.step[2 * image], step_y = p.step[2 * image + 1];
  const double x = p.places[2 * place], y = p.places[2 * place + 1];
  const int k = static_cast<int>(p.k);
  Found<K> found;
#pragma unroll
  for (int j = 0; j < K; ++j) {
    found.distance[j] = INFINITY;
    found.index[j] = INT64_MAX;
  }
  const int64_t column = bucket_of(x - low_x, step_x, side);
  const int64_t row = bucket_of(y - low_y, step_y, side);
  for (int64_t ring = 0; ring < side; ++ring) {
    const int64_t left = column - ring, right = column + ring, top = row - ring,
                  bottom = row + ring;
    for (int64_t r = top > 0 ? top : 0; r <= bottom && r < side; ++r) {
      const int64_t line = base + r * side;
      if (r == top || r == bottom) {
        visit<K>(p, line + (left > 0 ? left : 0), line + (right < side ? right + 1 : side), x, y,
                 found);
      } else {
        if (left >= 0) visit<K>(p, line + left, line + left + 1, x, y, found);
        if (right < side) visit<K>(p, line + right, line + right + 1, x, y, found);
      }
    }
    // No point outside the square is nearer than this; a little less, so that no rounding can
    // make it too large.
    double reach = INFINITY;
    if (left > 0) reach = fmin(reach, x - (low_x + step_x * static_cast<double>(left)));
    if (right < side - 1) reach = fmin(reach, low_x + step_x * static_cast<double>(right + 1) - x);
    if (top > 0) reach = fmin(reach, y - (low_y + step_y * static_cast<double>(top)));
    if (bottom < side - 1)
      reach = fmin(reach, low_y + step_y * static_cast<double>(bottom + 1) - y);
    reach -= 1e-6;
    double farthest = INFINITY;
#pragma unroll
    for (int j = 0; j < K; ++j)
      if (j == k - 1) farthest = found.distance[j];
    if (reach > 0 && farthest < reach * reach) break;
  }
#pragma unroll
  for (int j = 0; j < K; ++j)
    if (j < k) p.nearest[place * k + j] = found.index[j] == INT64_MAX ? -1 : found.index[j];
}

template <int K>
int search(const ArtaGrid& p) {
  ARTA_LAUNCH((nearest_kernel<K>), blocks_for(p.total, THREADS), THREADS, 0, p.stream, p);
  return status();
}

}  // namespace

ARTA_INTERFACE(balanced_clusters, 2)

// `keys` (T,): sorting by them orders tokens by image and anchor. `anchors` (B, 3): rows and
// columns of an image's anchors and the number of the first one.
ARTA_API int arta_cluster_keys(const int32_t* xy, const int64_t* batch, const int64_t* anchors,
                               int64_t total, int64_t images, int64_t height, int64_t width,
                               int64_t* keys, void* stream) try {
  if (total == 0) return 0;
  ARTA_LAUNCH((cluster_keys_kernel), blocks_for(total, THREADS), THREADS, 0, stream, xy, batch,
              anchors, total, images, height, width, keys);
  return status();
} catch (...) {
  return ARTA_CUDA_FAILED;
}

ARTA_INTERFACE(nearest_tokens, 1)

ARTA_API int arta_nearest(const ArtaGrid* problem) try {
  const ArtaGrid& p = *problem;
  if (p.total == 0 || p.k == 0) return 0;
  if (p.k == 1) return search<1>(p);
  if (p.k <= 4) return search<4>(p);
  if (p.k <= 6) return search<6>(p);
  if (p.k <= 9) return search<9>(p);
  if (p.k <= 16) return search<16>(p);
  return ARTA_CUDA_UNSUPPORTED;
} catch (...) {
  return ARTA_CUDA_FAILED;
}
