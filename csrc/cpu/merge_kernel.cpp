// Neighbourhood merge for one instruction set and number type. Compiled once for each, with
// ARTA_TABLE the name of the table of functions that it defines.
#include "merge_kernel.h"
#include "vec.h"

namespace {

// Sets of weights that are handled together, so that a neighbour's row is read once for them.
constexpr int SETS = 4;
// Vectors of columns that are summed together.
constexpr int COLUMNS = 2;

// The arrays of a problem, typed, and the sizes that address them.
struct View {
  explicit View(const ArtaMerge& p)
      : feats(static_cast<const real*>(p.feats)), weights(static_cast<const real*>(p.weights)),
        rows(p.rows), values(p.values), k(p.k), sets(p.sets), dim(p.dim) {}
  const real *feats, *weights;
  const int64_t* rows;
  int64_t values, k, sets, dim;
};

// Sums over the neighbours of one place for M sets of weights and G vectors of columns.
template <int M, int G>
ARTA_INLINE void merge_columns(const View& v, const int64_t* rows, const real* weights,
                               const real* feats, real* to) {
  Vec sum[M][G] = {};
  for (int64_t j = 0; j < v.k; ++j) {
    if (rows[j] < 0 || rows[j] >= v.values) continue;
    const real *r = feats + rows[j] * v.dim, *w = weights + j * v.sets;
    for (int g = 0; g < G; ++g) {
      const Vec x = load(r + g * LANES);
      for (int m = 0; m < M; ++m) sum[m][g] += w[m] * x;
    }
  }
  for (int m = 0; m < M; ++m)
    for (int g = 0; g < G; ++g) store(to + m * v.dim + g * LANES, sum[m][g]);
}

template <int M>
ARTA_INLINE void merge_place(const View& v, const int64_t* rows, const real* weights, real* to) {
  int64_t c = 0;
  for (; c + COLUMNS * LANES <= v.dim; c += COLUMNS * LANES)
    merge_columns<M, COLUMNS>(v, rows, weights, v.feats + c, to + c);
  for (; c + LANES <= v.dim; c += LANES)
    merge_columns<M, 1>(v, rows, weights, v.feats + c, to + c);
  for (; c < v.dim; ++c)
    for (int m = 0; m < M; ++m) {
      real sum = 0;
      for (int64_t j = 0; j < v.k; ++j)
        if (rows[j] >= 0 && rows[j] < v.values)
          sum += weights[j * v.sets + m] * v.feats[rows[j] * v.dim + c];
      to[m * v.dim + c] = sum;
    }
}

// Products of one row with M rows that lie one after the other.
template <int M>
ARTA_INLINE void products(const real* row, const real* others, int64_t dim, real* to) {
  Vec sum[M] = {};
  int64_t c = 0;
  for (; c + LANES <= dim; c += LANES) {
    const Vec x = load(row + c);
    for (int m = 0; m < M; ++m) sum[m] += x * load(others + m * dim + c);
  }
  for (int m = 0; m < M; ++m) {
    real all = horizontal_sum(sum[m]);
    for (int64_t rest = c; rest < dim; ++rest) all += row[rest] * others[m * dim + rest];
    to[m] = all;
  }
}

// Adds up, for G vectors of columns, what the pairs of one row send back through M sets.
template <int M, int G>
ARTA_INLINE void return_columns(const View& v, const int64_t* pairs, int64_t count,
                                const real* weights, const real* grad_out, real* to) {
  Vec sum[G];
  for (int g = 0; g < G; ++g) sum[g] = load(to + g * LANES);
  for (int64_t i = 0; i < count; ++i) {
    const real* w = weights + pairs[i] * v.sets;
    const real* from = grad_out + pairs[i] / v.k * v.sets * v.dim;
    for (int m = 0; m < M; ++m)
      for (int g = 0; g < G; ++g) sum[g] += w[m] * load(from + m * v.dim + g * LANES);
  }
  for (int g = 0; g < G; ++g) store(to + g * LANES, sum[g]);
}

template <int M>
ARTA_INLINE void return_row(const View& v, const int64_t* pairs, int64_t count,
                            const real* weights, const real* grad_out, real* to) {
  int64_t c = 0;
  for (; c + COLUMNS * LANES <= v.dim; c += COLUMNS * LANES)
    return_columns<M, COLUMNS>(v, pairs, count, weights, grad_out + c, to + c);
  for (; c + LANES <= v.dim; c += LANES)
    return_columns<M, 1>(v, pairs, count, weights, grad_out + c, to + c);
  for (; c < v.dim; ++c)
    for (int64_t i = 0; i < count; ++i)
      for (int m = 0; m < M; ++m)
        to[c] += weights[pairs[i] * v.sets + m] *
                 grad_out[(pairs[i] / v.k * v.sets + m) * v.dim + c];
}

ARTA_INLINE bool in_range(const View& v, const int64_t* rows) {
  bool valid = true;
  for (int64_t j = 0; j < v.k; ++j) valid &= rows[j] < v.values;
  return valid;
}

bool forward(const ArtaMerge& problem, void* out, int64_t begin, int64_t end) {
  const View v(problem);
  bool valid = true;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t* rows = v.rows + t * v.k;
    const real* weights = v.weights + t * v.k * v.sets;
    real* to = static_cast<real*>(out) + t * v.sets * v.dim;
    valid &= in_range(v, rows);
    int64_t m = 0;
    for (; m + SETS <= v.sets; m += SETS) merge_place<SETS>(v, rows, weights + m, to + m * v.dim);
    for (; m < v.sets; ++m) merge_place<1>(v, rows, weights + m, to + m * v.dim);
  }
  return valid;
}

bool backward_weights(const ArtaMerge& problem, const void* grad_out, void* grad_weights,
                      int64_t begin, int64_t end) {
  const View v(problem);
  bool valid = true;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t* rows = v.rows + t * v.k;
    const real* grad = static_cast<const real*>(grad_out) + t * v.sets * v.dim;
    valid &= in_range(v, rows);
    for (int64_t j = 0; j < v.k; ++j) {
      real* to = static_cast<real*>(grad_weights) + (t * v.k + j) * v.sets;
      if (rows[j] < 0 || rows[j] >= v.values) {
        for (int64_t m = 0; m < v.sets; ++m) to[m] = 0;
        continue;
      }
      const real* row = v.feats + rows[j] * v.dim;
      int64_t m = 0;
      for (; m + SETS <= v.sets; m += SETS)
        products<SETS>(row, grad + m * v.dim, v.dim, to + m);
      for (; m < v.sets; ++m) products<1>(row, grad + m * v.dim, v.dim, to + m);
    }
  }
  return valid;
}

void backward_feats(const ArtaMerge& problem, const void* grad_out, void* grad_feats,
                    const int64_t* first, const int64_t* pairs, int64_t begin, int64_t end) {
  const View v(problem);
  const real* grad = static_cast<const real*>(grad_out);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t* own = pairs + first[row];
    const int64_t count = first[row + 1] - first[row];
    real* to = static_cast<real*>(grad_feats) + row * v.dim;
    for (int64_t c = 0; c < v.dim; ++c) to[c] = 0;
    int64_t m = 0;
    for (; m + SETS <= v.sets; m += SETS)
      return_row<SETS>(v, own, count, v.weights + m, grad + m * v.dim, to);
    for (; m < v.sets; ++m) return_row<1>(v, own, count, v.weights + m, grad + m * v.dim, to);
  }
}

}  // namespace

extern const arta::MergeKernels ARTA_TABLE;
const arta::MergeKernels ARTA_TABLE = {forward, backward_weights, backward_feats};
