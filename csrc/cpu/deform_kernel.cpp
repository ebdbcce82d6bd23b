// Point deformable attention for one instruction set and number type. Compiled once for each,
// with ARTA_TABLE the name of the table of functions that it defines.
#include "arena.h"
#include "deform_kernel.h"
#include "gathered_rows.h"
#include "rows.h"
#include "vec.h"

namespace {

// The arrays of a problem, typed, and the sizes that address them.
struct View {
  explicit View(const ArtaDeform& p)
      : value(static_cast<const real*>(p.value)), centers(static_cast<const real*>(p.centers)),
        nearest(p.nearest), batch(p.batch), location(static_cast<const real*>(p.location)),
        weight(static_cast<const real*>(p.weight)), power(*static_cast<const real*>(p.power)),
        floor(static_cast<real>(p.floor)), eps(static_cast<real>(p.eps)), values(p.values),
        images(p.images), rows(p.rows), columns(p.columns), stride(p.heads * p.dim),
        heads(static_cast<int>(p.heads)), dim(static_cast<int>(p.dim)),
        levels(static_cast<int>(p.levels)), points(static_cast<int>(p.points)),
        k(static_cast<int>(p.k)), samples(levels * points),
        pairs(static_cast<int>(up(samples * k, LANES))) {}

  const real *value, *centers;
  const int64_t *nearest, *batch;
  const real *location, *weight;
  real power, floor, eps;
  int64_t values, images, rows, columns, stride;
  int heads, dim, levels, points, k;
  int samples;  // of one query in one head
  int pairs;    // of a sample and a token, rounded up to whole vectors
};

// Everything about the pairs of one query and head. Pairs that do not exist have row 0, the least
// distance, and weight 0.
struct Scratch {
  Scratch(const View& v, void* memory) {
    Arena arena(memory);
    row = arena.take<int64_t>(v.pairs);
    dx = arena.take<real>(v.pairs);
    dy = arena.take<real>(v.pairs);
    squared = arena.take<real>(v.pairs);
    exists = arena.take<real>(v.pairs);
    log = arena.take<real>(v.pairs);
    raised = arena.take<real>(v.pairs);
    inverse = arena.take<real>(v.pairs);
    total = arena.take<real>(v.samples);
    share = arena.take<real>(v.pairs);
    dot = arena.take<real>(v.pairs);
    bytes = arena.used();
  }
  int64_t* row;
  real *dx, *dy;   // place of the sample less that of the token
  real* squared;   // distance
  real* exists;    // 1 or 0
  real* log;       // of the squared distance, at least the floor
  real* raised;    // that distance to the given power
  real* inverse;   // 1 / (raised + eps)
  real* total;     // (samples,) sum of inverse, and eps
  real* share;     // inverse / total; in the end times the sample's weight
  real* dot;       // grad_out times value
  int64_t bytes;
};

// The cell of a coordinate: the nearest integer, halves to even, inside 0..count-1. Not a number
// becomes 0.
ARTA_INLINE int64_t cell_of(real x, int64_t count) {
  const real last = static_cast<real>(count - 1);
  x = x > 0 ? (x < last ? x : last) : 0;
  int64_t low = static_cast<int64_t>(x);
  const real rest = x - static_cast<real>(low);
  return low + (rest > real(0.5) || (rest == real(0.5) && (low & 1)));
}

// Finds the tokens around all samples of a query in one head. Returns whether indices are valid.
ARTA_INLINE bool find_pairs(const View& v, const Scratch& s, int64_t query, int head) {
  const int64_t image = v.batch[query];
  bool valid = image >= 0 && image < v.images && v.rows > 0 && v.columns > 0;
  const real* place = v.location + (query * v.heads + head) * v.samples * 2;
  int pair = 0;
  for (int sample = 0; sample < v.samples; ++sample, place += 2) {
    const int64_t* near = nullptr;
    if (valid) {
      const int64_t plane = sample / v.points * v.images + image;
      const int64_t cell = (plane * v.rows + cell_of(place[1], v.rows)) * v.columns +
                           cell_of(place[0], v.columns);
      near = v.nearest + cell * v.k;
    }
    for (int j = 0; j < v.k; ++j, ++pair) {
      int64_t row = near ? near[j] : -1;
      if (row >= v.values) {
        valid = false;
        row = -1;
      }
      const bool exists = row >= 0;
      s.exists[pair] = exists;
      s.row[pair] = exists ? row : 0;
      s.dx[pair] = exists ? place[0] - v.centers[2 * row] : 0;
      s.dy[pair] = exists ? place[1] - v.centers[2 * row + 1] : 0;
    }
  }
  for (; pair < v.pairs; ++pair) {
    s.exists[pair] = s.dx[pair] = s.dy[pair] = 0;
    s.row[pair] = 0;
  }
  return valid;
}

// Interpolation weights of all pairs, before the samples' weights.
ARTA_INLINE void find_shares(const View& v, const Scratch& s) {
  for (int pair = 0; pair < v.pairs; pair += LANES) {
    const Vec dx = load(s.dx + pair), dy = load(s.dy + pair);
    const Vec squared = dx * dx + dy * dy;
    // The bounds come first: what is not a number stays so.
    const Vec log = logarithm(maximum(splat(v.floor), squared));
    const Vec exponent = minimum(splat(HIGHEST_EXPONENT),
                                 maximum(splat(LOWEST_EXPONENT), log * v.power));
    const Vec raised = exponential(exponent);
    store(s.squared + pair, squared);
    store(s.log + pair, log);
    store(s.raised + pair, raised);
    store(s.inverse + pair, load(s.exists + pair) / (raised + v.eps));
  }
  for (int sample = 0; sample < v.samples; ++sample) {
    const real* inverse = s.inverse + sample * v.k;
    real total = v.eps;
    for (int j = 0; j < v.k; ++j) total += inverse[j];
    s.total[sample] = total;
    // No token and no eps: nothing to share out.
    const real scale = total > 0 ? 1 / total : 0;
    for (int j = 0; j < v.k; ++j) s.share[sample * v.k + j] = inverse[j] * scale;
  }
}

ARTA_INLINE void weigh(const View& v, const Scratch& s, const real* weight) {
  for (int sample = 0; sample < v.samples; ++sample)
    for (int j = 0; j < v.k; ++j) s.share[sample * v.k + j] *= weight[sample];
}

template <int NV>
bool forward_head(const View v, real* out, int64_t query, int head, const Scratch s) {
  const int dim = NV ? NV * LANES : v.dim;
  const bool valid = find_pairs(v, s, query, head);
  find_shares(v, s);
  weigh(v, s, v.weight + (query * v.heads + head) * v.samples);
  // With no value there is no row to look at.
  const int pairs = v.values ? v.samples * v.k : 0;
  sum_gathered<NV>(s.row, pairs, s.share, v.value + head * dim, v.stride, dim,
                   out + query * v.stride + head * dim);
  return valid;
}

// The arrays of the backward pass, typed.
struct Gradients {
  explicit Gradients(const ArtaDeformGrad& g)
      : out(static_cast<const real*>(g.grad_out)), value(static_cast<real*>(g.grad_value)),
        location(static_cast<real*>(g.grad_location)), weight(static_cast<real*>(g.grad_weight)) {}
  const real* out;
  real *value, *location, *weight;
};

// Gradients of places and weights from the products `s.dot`. Returns that of the power.
ARTA_INLINE real backward_shares(const View& v, const Scratch& s, const real* weight,
                                 real* grad_weight, real* grad_location) {
  real grad_power = 0;
  for (int sample = 0; sample < v.samples; ++sample) {
    const int first = sample * v.k;
    real sum = 0;
    for (int j = 0; j < v.k; ++j) sum += s.share[first + j] * s.dot[first + j];
    grad_weight[sample] = sum;
    const real inverse_total = s.total[sample] > 0 ? 1 / s.total[sample] : 0;
    const real scale = weight[sample] * inverse_total;
    real x = 0, y = 0;
    for (int j = 0; j < v.k; ++j) {
      const int pair = first + j;
      // How much more this token's product is than the mean: by differences, as nearly all may
      // cancel. The shares lack eps / total to 1.
      real above = s.dot[pair] * v.eps * inverse_total;
      for (int i = 0; i < v.k; ++i) above += s.share[first + i] * (s.dot[pair] - s.dot[first + i]);
      // Of `raised`, that is, the distance to the given power; of its logarithm.
      const real grad = -scale * above * s.inverse[pair] * s.inverse[pair];
      const real grad_log = grad * s.raised[pair];
      grad_power += grad_log * s.log[pair];
      // A distance at its lower bound does not move.
      if (s.squared[pair] >= v.floor && s.squared[pair] > 0) {
        const real step = 2 * v.power * grad_log / s.squared[pair];
        x += step * s.dx[pair];
        y += step * s.dy[pair];
      }
    }
    grad_location[2 * sample] = x;
    grad_location[2 * sample + 1] = y;
  }
  return grad_power;
}

template <int NV>
bool backward_head(const View v, const Gradients g, int64_t queries, int head, double* power,
                   const Scratch s) {
  const int dim = NV ? NV * LANES : v.dim;
  const real* value = v.value + head * dim;
  real* grad_value = g.value + head * dim;
  for (int64_t row = 0; dim && row < v.values; ++row)
    __builtin_memset(grad_value + row * v.stride, 0, static_cast<size_t>(dim) * sizeof(real));
  const int pairs = v.values ? v.samples * v.k : 0;
  bool valid = true;
  for (int64_t query = 0; query < queries; ++query) {
    const real* grad_out = g.out + query * v.stride + head * dim;
    const int64_t at = (query * v.heads + head) * v.samples;
    valid &= find_pairs(v, s, query, head);
    find_shares(v, s);
    for (int pair = 0; pair < v.pairs; pair += LANES) {
      const real* rows[LANES];
      if (pairs)
        for (int i = 0; i < LANES; ++i) rows[i] = value + s.row[pair + i] * v.stride;
      store(s.dot + pair, pairs ? dots_of<NV>(grad_out, rows, dim) : Vec{});
    }
    *power += backward_shares(v, s, v.weight + at, g.weight + at, g.location + 2 * at);
    weigh(v, s, v.weight + at);
    for (int pair = 0; pair < pairs; ++pair)
      if (s.share[pair] != 0)
        add_scaled<NV>(s.share[pair], grad_out, dim, grad_value + s.row[pair] * v.stride);
  }
  return valid;
}

// The kernels for a width, chosen once per call.
struct Kernels {
  decltype(&forward_head<0>) forward;
  decltype(&backward_head<0>) backward;
};

template <int NV>
constexpr Kernels KERNELS = {forward_head<NV>, backward_head<NV>};

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

size_t scratch_bytes(const ArtaDeform& problem) {
  return static_cast<size_t>(Scratch(View(problem), nullptr).bytes);
}

bool forward(const ArtaDeform& problem, void* out, int64_t begin, int64_t end, void* memory) {
  const View v(problem);
  const Scratch s(v, memory);
  const Kernels kernels = kernels_for(v.dim);
  bool valid = true;
  for (int64_t query = begin; query < end; ++query)
    for (int head = 0; head < v.heads; ++head)
      valid &= kernels.forward(v, static_cast<real*>(out), query, head, s);
  return valid;
}

bool backward(const ArtaDeform& problem, const ArtaDeformGrad& grad, int64_t head, double* power,
              void* memory) {
  const View v(problem);
  return kernels_for(v.dim).backward(v, Gradients(grad), problem.queries, static_cast<int>(head),
                                     power, Scratch(v, memory));
}

}  // namespace

extern const arta::DeformKernels ARTA_TABLE;
const arta::DeformKernels ARTA_TABLE = {scratch_bytes, forward, backward};
