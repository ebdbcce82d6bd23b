// Cluster attention for one instruction set and number type. Compiled once for each, with
// ARTA_TABLE the name of the table of functions that it defines.
#include "arena.h"
#include "attention_kernel.h"
#include "rows.h"
#include "vec.h"

namespace {

// Rows that are handled together, head by head, so that what one head needs of their common
// neighbours stays in the first-level cache; and the same for the rows that attend to a tile.
constexpr int BLOCK = 8;
constexpr int BATCH = 32;

// The arrays of a problem, typed, and the sizes that address them.
struct View {
  explicit View(const ArtaAttention& p)
      : q(static_cast<const real*>(p.q)), kv(static_cast<const real*>(p.kv)),
        weight(static_cast<const real*>(p.bias_weight)),
        bias(static_cast<const real*>(p.bias_bias)),
        blank_k(static_cast<const real*>(p.blank_k)), blank_v(static_cast<const real*>(p.blank_v)),
        xy(p.xy), start(p.start), neighbors(p.neighbors), total(p.total), clusters(p.clusters),
        width(p.num_neighbors), cluster_size(p.cluster_size), heads(static_cast<int>(p.heads)),
        dim(static_cast<int>(p.dim)), q_stride(p.heads * p.dim), kv_stride(2 * p.heads * p.dim),
        own_tiles(up(p.cluster_size < p.total ? p.cluster_size : p.total, LANES) / LANES),
        tiles(p.num_neighbors * own_tiles),
        scale(real(1) / square_root(real(p.dim))), clamp(static_cast<real>(p.blank_clamp)) {}

  const real *q, *kv, *weight, *bias, *blank_k, *blank_v;
  const int32_t* xy;
  const int64_t *start, *neighbors;
  int64_t total, clusters, width, cluster_size;
  int heads, dim;
  int64_t q_stride, kv_stride;
  int64_t own_tiles;  // of one cluster at most
  int64_t tiles;      // of one token at most
  real scale, clamp;
};

// dx, dy, distance, sin, cos of the rows of a tile as seen from a token.
constexpr int FEATURES = 5;
constexpr int GEOMETRY = FEATURES * LANES;

struct Scratch {
  Scratch(const View& v, void* memory) {
    Arena arena(memory);
    const int64_t pairs = BLOCK * v.tiles > BATCH ? BLOCK * v.tiles : BATCH;
    tiles = arena.take<Tile>(BLOCK * (v.tiles > v.own_tiles ? v.tiles : v.own_tiles));
    geometry = arena.take<real>(pairs * GEOMETRY);
    weights = arena.take<real>(v.tiles * LANES);
    row = arena.take<real>(up(v.dim, LANES));
    bias_sums = arena.take<Vec>(v.heads * 6);
    blank_sums = arena.take<real>(v.heads * 2 * v.dim);
    batch_p = arena.take<real>(BATCH * LANES);
    batch_ds = arena.take<real>(BATCH * LANES);
    bytes = arena.used();
  }
  Tile* tiles;               // (BLOCK, tiles)
  real* geometry;            // (BLOCK, tiles, 5, 8) or (BATCH, 5, 8)
  real* weights;             // (tiles, 8)
  real* row;                 // (dim,) padded to whole vectors
  Vec* bias_sums;            // (H, 6)
  real* blank_sums;          // (H, 2, dim): blank_k, blank_v
  real *batch_p, *batch_ds;  // (BATCH, 8)
  int64_t bytes;
};

// The tiles of a cluster, appended. Indices are checked: a wrong one must not read elsewhere.
ARTA_INLINE int add_tiles(const View& v, int64_t cluster, Tile* tiles, int count, bool& valid) {
  if (cluster < 0) return count;
  if (cluster >= v.clusters) {
    valid = false;
    return count;
  }
  const int64_t begin = v.start[cluster];
  int64_t end = v.start[cluster + 1];
  if (end > begin + v.cluster_size) end = begin + v.cluster_size;
  if (begin < 0 || end > v.total) return count;
  for (int64_t row = begin; row < end; row += LANES) {
    const int64_t left = end - row;
    tiles[count++] = {row, static_cast<int>(left < LANES ? left : LANES)};
  }
  return count;
}

ARTA_INLINE void write_geometry(const View& v, const Tile& tile, int64_t row, real* to) {
  const int32_t* at = v.xy + 2 * tile.row;
  int32_t some[2 * LANES];
  if (tile.count < LANES) {
    for (int i = 0; i < LANES; ++i) {
      const int lane = i < tile.count ? i : tile.count - 1;
      some[2 * i] = at[2 * lane];
      some[2 * i + 1] = at[2 * lane + 1];
    }
    at = some;
  }
  Vec dx, dy;
  split_pairs(at, v.xy[2 * row], v.xy[2 * row + 1], dx, dy);
  const Vec distance = square_root(dx * dx + dy * dy);
  const Vec inverse = real(1) / maximum(distance, splat(real(1e-6)));
  store(to, dx);
  store(to + LANES, dy);
  store(to + 2 * LANES, distance);
  store(to + 3 * LANES, dy * inverse);
  store(to + 4 * LANES, dx * inverse);
}

// Tiles and geometry of the rows of a block; `count` (BLOCK,) tiles of each. Returns whether all
// neighbours are in range.
ARTA_INLINE bool look_around(const View& v, const Scratch& s, int64_t begin, int rows,
                             int* count) {
  bool valid = true;
  for (int r = 0; r < rows; ++r) {
    Tile* tiles = s.tiles + r * v.tiles;
    int found = 0;
    for (int64_t n = 0; n < v.width; ++n)
      found = add_tiles(v, v.neighbors[(begin + r) * v.width + n], tiles, found, valid);
    for (int t = 0; t < found; ++t)
      write_geometry(v, tiles[t], begin + r, s.geometry + (r * v.tiles + t) * GEOMETRY);
    count[r] = found;
  }
  return valid;
}

// What one head needs.
template <int NV>
struct Head {
  ARTA_MEMBER Head(const View& v, int head)
      : dim(NV ? NV * LANES : v.dim), stride(v.kv_stride), key(v.kv + head * 2 * dim),
        value(key + dim), blank_k(v.blank_k + head * dim), blank_v(v.blank_v + head * dim),
        bias(v.bias[head]), scale(v.scale), clamp(v.clamp) {
    for (int f = 0; f < FEATURES; ++f) weight[f] = v.weight[head * FEATURES + f];
  }

  ARTA_MEMBER Vec logits(const real* geometry, const Tile& tile, const real* query) const {
    Vec sum = splat(bias);
    for (int f = 0; f < FEATURES; ++f) sum += load(geometry + f * LANES) * weight[f];
    return dots<NV>(query, key + tile.row * stride, stride, tile.count, dim) * scale + sum;
  }

  ARTA_MEMBER Vec value_products(const Tile& tile, const real* grad) const {
    return dots<NV>(grad, value + tile.row * stride, stride, tile.count, dim);
  }

  // Before the clamp.
  ARTA_MEMBER real blank_logit(const real* query) const {
    return dot<NV>(query, blank_k, dim) * scale;
  }
  ARTA_MEMBER real clamped(real logit) const {
    return logit > clamp ? clamp : (logit < -clamp ? -clamp : logit);
  }

  int dim;
  int64_t stride;
  const real *key, *value, *blank_k, *blank_v;
  real weight[FEATURES];
  real bias, scale, clamp;
};

template <int NV>
bool forward_rows(const View v, real* out, real* lse, int64_t begin, int rows, const Scratch s) {
  int count[BLOCK];
  const bool valid = look_around(v, s, begin, rows, count);
  const real lowest = -static_cast<real>(__builtin_inf());
  for (int h = 0; h < v.heads; ++h) {
    const Head<NV> head(v, h);
    for (int r = 0; r < rows; ++r) {
      const int64_t row = begin + r;
      const Tile* tiles = s.tiles + r * v.tiles;
      const real* geometry = s.geometry + r * v.tiles * GEOMETRY;
      const real* query = v.q + row * v.q_stride + h * head.dim;
      const real blank = head.clamped(head.blank_logit(query));
      Vec most = splat(blank);
      for (int t = 0; t < count[r]; ++t) {
        Vec logits = head.logits(geometry + t * GEOMETRY, tiles[t], query);
        if (tiles[t].count < LANES) logits = keep_first(logits, tiles[t].count, lowest);
        most = maximum(most, logits);
        store(s.weights + t * LANES, logits);
      }
      const real top = horizontal_max(most);
      Vec sum = {};
      for (int t = 0; t < count[r]; ++t) {
        const Vec e = exponential(load(s.weights + t * LANES) - top);
        store(s.weights + t * LANES, e);
        sum += e;
      }
      const real blank_weight = exponential(blank - top);
      const real all = horizontal_sum(sum) + blank_weight;
      sum_rows<NV>(tiles, count[r], s.weights, head.value, head.stride, head.dim, s.row);
      write_sum<NV>(s.row, blank_weight, head.blank_v, real(1) / all, head.dim,
                    out + row * v.q_stride + h * head.dim);
      lse[row * v.heads + h] = top + logarithm(all);
    }
  }
  return valid;
}

// The arrays of the backward pass, typed.
struct Gradients {
  explicit Gradients(const ArtaAttentionGrad& g, const void* delta)
      : out(static_cast<const real*>(g.grad_out)), forward(static_cast<const real*>(g.out)),
        lse(static_cast<const real*>(g.lse)), delta(static_cast<const real*>(delta)),
        q(static_cast<real*>(g.grad_q)), kv(static_cast<real*>(g.grad_kv)) {}
  const real *out, *forward, *lse, *delta;
  real *q, *kv;
};

template <int NV>
bool backward_block(const View v, const Gradients g, real* delta, int64_t begin, int rows,
                    const Scratch s) {
  int count[BLOCK];
  const bool valid = look_around(v, s, begin, rows, count);
  for (int h = 0; h < v.heads; ++h) {
    const Head<NV> head(v, h);
    const int dim = head.dim;
    real* blank_sums = s.blank_sums + h * 2 * dim;
    Vec* bias_sums = s.bias_sums + h * 6;
    for (int r = 0; r < rows; ++r) {
      const int64_t row = begin + r, at = row * v.q_stride + h * dim;
      const Tile* tiles = s.tiles + r * v.tiles;
      const real* geometry = s.geometry + r * v.tiles * GEOMETRY;
      const real *query = v.q + at, *grad = g.out + at;
      const real lse = g.lse[row * v.heads + h];
      const real own = dot<NV>(grad, g.forward + at, dim);
      delta[row * v.heads + h] = own;
      Vec row_sums[6] = {};  // by rows first: fewer digits are lost where the sums nearly cancel
      for (int t = 0; t < count[r]; ++t) {
        const real* pair = geometry + t * GEOMETRY;
        const Vec p = exponential(head.logits(pair, tiles[t], query) - lse);
        Vec ds = p * (head.value_products(tiles[t], grad) - own);
        if (tiles[t].count < LANES) ds = keep_first(ds, tiles[t].count, 0);
        store(s.weights + t * LANES, ds);
        for (int f = 0; f < FEATURES; ++f) row_sums[f] += ds * load(pair + f * LANES);
        row_sums[FEATURES] += ds;
      }
      for (int f = 0; f < 6; ++f) bias_sums[f] += row_sums[f];
      sum_rows<NV>(tiles, count[r], s.weights, head.key, head.stride, dim, s.row);

      const real logit = head.blank_logit(query), held = head.clamped(logit);
      const real p = exponential(held - lse);
      // A logit that the clamp holds does not move.
      const real ds = held == logit ? p * (dot<NV>(grad, head.blank_v, dim) - own) : 0;
      write_sum<NV>(s.row, ds, head.blank_k, head.scale, dim, g.q + at);
      add_scaled<NV>(ds * head.scale, query, dim, blank_sums);
      add_scaled<NV>(p, grad, dim, blank_sums + dim);
    }
  }
  return valid;
}

template <int NV>
void backward_tile(const View v, const Gradients g, const int32_t* attending, int64_t count,
                   const Tile tile, const Scratch s) {
  real* grad_kv = g.kv + tile.row * v.kv_stride;
  __builtin_memset(grad_kv, 0, tile.count * v.kv_stride * sizeof(real));
  for (int64_t done = 0; done < count; done += BATCH) {
    const int batch = static_cast<int>(count - done < BATCH ? count - done : BATCH);
    const int32_t* index = attending + done;
    for (int b = 0; b < batch; ++b) write_geometry(v, tile, index[b], s.geometry + b * GEOMETRY);
    for (int h = 0; h < v.heads; ++h) {
      const Head<NV> head(v, h);
      const int dim = head.dim;
      const real *queries = v.q + h * dim, *grads = g.out + h * dim;
      for (int b = 0; b < batch; ++b) {
        const int64_t row = index[b], at = row * v.q_stride;
        const Vec logits = head.logits(s.geometry + b * GEOMETRY, tile, queries + at);
        const Vec p = exponential(logits - g.lse[row * v.heads + h]);
        const Vec ds = p * (head.value_products(tile, grads + at) - g.delta[row * v.heads + h]);
        store(s.batch_p + b * LANES, p);
        store(s.batch_ds + b * LANES, ds * head.scale);
      }
      real* to = grad_kv + h * 2 * dim;
      add_products<NV>(s.batch_ds, queries, index, v.q_stride, batch, to, v.kv_stride, tile.count,
                       dim);
      add_products<NV>(s.batch_p, grads, index, v.q_stride, batch, to + dim, v.kv_stride,
                       tile.count, dim);
    }
  }
}

// The kernels for a width, chosen once per call.
struct Kernels {
  decltype(&forward_rows<0>) forward;
  decltype(&backward_block<0>) block;
  decltype(&backward_tile<0>) tile;
};

template <int NV>
constexpr Kernels KERNELS = {forward_rows<NV>, backward_block<NV>, backward_tile<NV>};

Kernels kernels_for(int dim) {
#ifndef ARTA_DOUBLE  // double precision is for checking
  switch (dim) {
    case 8: return KERNELS<1>;
    case 16: return KERNELS<2>;
    case 24: return KERNELS<3>;
    case 32: return KERNELS<4>;
  }
#endif
  (void)dim;
  return KERNELS<0>;
}

template <class Job>
void each_block(int64_t begin, int64_t end, const Job& job) {
  for (; begin < end; begin += BLOCK)
    job(begin, static_cast<int>(end - begin < BLOCK ? end - begin : BLOCK));
}

size_t scratch_bytes(const ArtaAttention& problem) {
  return static_cast<size_t>(Scratch(View(problem), nullptr).bytes);
}

bool forward(const ArtaAttention& problem, void* out, void* lse, int64_t begin, int64_t end,
             void* memory) {
  bool valid = true;
  const View v(problem);
  const Scratch s(v, memory);
  const Kernels kernels = kernels_for(v.dim);
  each_block(begin, end, [&](int64_t first, int rows) {
    valid &= kernels.forward(v, static_cast<real*>(out), static_cast<real*>(lse), first, rows, s);
  });
  return valid;
}

bool backward_rows(const ArtaAttention& problem, const ArtaAttentionGrad& grad, void* delta,
                   double* sums, int64_t begin, int64_t end, void* memory) {
  bool valid = true;
  const View v(problem);
  const Gradients g(grad, delta);
  const Scratch s(v, memory);
  const Kernels kernels = kernels_for(v.dim);
  for (int i = 0; i < v.heads * 6; ++i) s.bias_sums[i] = Vec{};
  for (int i = 0; i < v.heads * 2 * v.dim; ++i) s.blank_sums[i] = 0;
  each_block(begin, end, [&](int64_t first, int rows) {
    valid &= kernels.block(v, g, static_cast<real*>(delta), first, rows, s);
  });
  for (int h = 0; h < v.heads; ++h) {
    double* to = sums + h * arta::HeadSums::size(v.dim);
    for (int f = 0; f < 6; ++f) to[f] += horizontal_sum(s.bias_sums[h * 6 + f]);
    for (int j = 0; j < 2 * v.dim; ++j)
      to[arta::HeadSums::BLANK + j] += s.blank_sums[h * 2 * v.dim + j];
  }
  return valid;
}

void backward_clusters(const ArtaAttention& problem, const ArtaAttentionGrad& grad,
                       const void* delta, const int64_t* first, const int32_t* attending,
                       int64_t begin, int64_t end, void* memory) {
  const View v(problem);
  const Gradients g(grad, delta);
  const Scratch s(v, memory);
  const Kernels kernels = kernels_for(v.dim);
  for (int64_t cluster = begin; cluster < end; ++cluster) {
    bool valid = true;  // these are all clusters that there are
    const int tiles = add_tiles(v, cluster, s.tiles, 0, valid);
    for (int t = 0; t < tiles; ++t)
      kernels.tile(v, g, attending + first[cluster], first[cluster + 1] - first[cluster],
                   s.tiles[t], s);
  }
}

}  // namespace

extern const arta::AttentionKernels ARTA_TABLE;
const arta::AttentionKernels ARTA_TABLE = {scratch_bytes, forward, backward_rows,
                                           backward_clusters};
