// Cluster attention: picks the kernels for this machine and shares their work among threads.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "attention_kernel.h"
#include "interface.h"
#include "parallel.h"

using arta::AttentionKernels;

extern const AttentionKernels arta_attention_base_float, arta_attention_base_double;
#ifdef ARTA_X86
extern const AttentionKernels arta_attention_avx2_float, arta_attention_avx512_float;
#endif

namespace {

// Sizes of the parts that threads take. They depend on no thread count, so that sums over parts,
// and with them the gradients, come out the same for any.
constexpr int64_t ROWS_PER_PART = 128;
constexpr int64_t CLUSTERS_PER_PART = 16;

int64_t parts_of(int64_t count, int64_t per_part) { return (count + per_part - 1) / per_part; }

// The kernels for float of every instruction set that this machine has, best first.
struct Choices {
  const AttentionKernels* kernels[3];
  int count = 0;

  Choices() {
#ifdef ARTA_X86
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
      kernels[count++] = &arta_attention_avx512_float;
    if (avx2) kernels[count++] = &arta_attention_avx2_float;
#endif
    kernels[count++] = &arta_attention_base_float;
  }
};

const Choices& choices() {
  static const Choices found;
  return found;
}

std::atomic<const AttentionKernels*> forced{nullptr};

const AttentionKernels& pick(bool is_double) {
  if (is_double) return arta_attention_base_double;
  const AttentionKernels* kernels = forced.load();
  return kernels ? *kernels : *choices().kernels[0];
}

template <class T>
std::unique_ptr<T[]> get(int64_t count) {
  const auto size = static_cast<size_t>(std::max<int64_t>(count, 1));
  return std::unique_ptr<T[]>(new (std::nothrow) T[size]);
}

// One piece of memory per worker, on cache lines of its own.
class Workers {
 public:
  Workers(size_t bytes, int64_t count)
      : bytes_((bytes + 127) / 128 * 128),
        memory_(get<char>(static_cast<int64_t>(bytes_) * count + 128)) {}
  bool failed() const { return !memory_; }
  void* operator[](int64_t worker) const {
    const auto base = (reinterpret_cast<uintptr_t>(memory_.get()) + 127) / 128 * 128;
    return reinterpret_cast<void*>(base + bytes_ * static_cast<size_t>(worker));
  }

 private:
  size_t bytes_;
  std::unique_ptr<char[]> memory_;
};

// Which rows attend to every cluster: a counting sort of the neighbours, stable in the rows.
struct Attending {
  std::unique_ptr<int64_t[]> first;  // (K + 1,)
  std::unique_ptr<int32_t[]> rows;

  bool build(const ArtaAttention& p) {
    const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(p.threads, 16));
    first = get<int64_t>(p.clusters + 1);
    rows = get<int32_t>(p.total * p.num_neighbors);
    // Share s counts its own rows per cluster; then the counts become places to write to.
    auto counts = get<int64_t>(threads * p.clusters);
    if (!first || !rows || !counts) return false;
    const auto share = [&](int64_t s) { return p.total * s / threads; };
    const auto valid = [&](int64_t c) { return c >= 0 && c < p.clusters; };

    auto count = [&](int64_t, int64_t s) {
      int64_t* own = counts.get() + s * p.clusters;
      std::fill(own, own + p.clusters, 0);
      for (int64_t i = share(s) * p.num_neighbors; i < share(s + 1) * p.num_neighbors; ++i)
        if (valid(p.neighbors[i])) ++own[p.neighbors[i]];
    };
    arta::parallel(threads, threads, count);

    int64_t next = 0;
    for (int64_t c = 0; c < p.clusters; ++c) {
      first[c] = next;
      for (int64_t s = 0; s < threads; ++s) {
        int64_t& place = counts[s * p.clusters + c];
        const int64_t own = place;
        place = next;
        next += own;
      }
    }
    first[p.clusters] = next;

    auto fill = [&](int64_t, int64_t s) {
      int64_t* place = counts.get() + s * p.clusters;
      for (int64_t row = share(s); row < share(s + 1); ++row)
        for (int64_t n = 0; n < p.num_neighbors; ++n) {
          const int64_t cluster = p.neighbors[row * p.num_neighbors + n];
          if (valid(cluster)) rows[place[cluster]++] = static_cast<int32_t>(row);
        }
    };
    arta::parallel(threads, threads, fill);
    return true;
  }
};

template <class T>
void write_sums(const ArtaAttention& p, const ArtaAttentionGrad& g, const double* sums) {
  for (int64_t h = 0; h < p.heads; ++h) {
    const double* from = sums + h * arta::HeadSums::size(p.dim);
    for (int64_t f = 0; f < 5; ++f)
      static_cast<T*>(g.grad_bias_weight)[h * 5 + f] = static_cast<T>(from[f]);
    static_cast<T*>(g.grad_bias_bias)[h] = static_cast<T>(from[arta::HeadSums::BIAS]);
    from += arta::HeadSums::BLANK;
    for (int64_t j = 0; j < p.dim; ++j) {
      static_cast<T*>(g.grad_blank_k)[h * p.dim + j] = static_cast<T>(from[j]);
      static_cast<T*>(g.grad_blank_v)[h * p.dim + j] = static_cast<T>(from[p.dim + j]);
    }
  }
}

}  // namespace

ARTA_API int64_t arta_cpu_version() { return ARTA_CPU_VERSION; }

ARTA_API const char* arta_cpu_instructions() { return pick(false).instructions; }

ARTA_API int arta_cpu_use(const char* instructions) {
  const Choices& found = choices();
  for (int i = 0; i < found.count; ++i)
    if (!*instructions || !std::strcmp(found.kernels[i]->instructions, instructions)) {
      forced = found.kernels[i];
      return 0;
    }
  return 1;
}

ARTA_API int64_t arta_cpu_shares_openmp() { return arta::shares_openmp(); }

ARTA_API int arta_cluster_attention(const ArtaAttention* problem, void* out, void* lse) {
  const ArtaAttention& p = *problem;
  const AttentionKernels& kernels = pick(p.is_double);
  const int64_t parts = parts_of(p.total, ROWS_PER_PART);
  const Workers scratch(kernels.scratch_bytes(p), arta::workers_for(parts, p.threads));
  if (scratch.failed()) return 1;
  auto job = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART;
    kernels.forward(p, out, lse, begin, std::min(begin + ROWS_PER_PART, p.total), scratch[worker]);
  };
  arta::parallel(parts, p.threads, job);
  return 0;
}

ARTA_API int arta_cluster_attention_backward(const ArtaAttention* problem,
                                             const ArtaAttentionGrad* grad) {
  const ArtaAttention& p = *problem;
  const AttentionKernels& kernels = pick(p.is_double);
  const int64_t row_parts = parts_of(p.total, ROWS_PER_PART);
  const int64_t cluster_parts = parts_of(p.clusters, CLUSTERS_PER_PART);
  const int64_t sum_size = p.heads * arta::HeadSums::size(p.dim);

  const Workers scratch(kernels.scratch_bytes(p),
                        arta::workers_for(std::max(row_parts, cluster_parts), p.threads));
  const auto delta = get<char>(p.total * p.heads * (p.is_double ? 8 : 4));
  const auto sums = get<double>((row_parts + 1) * sum_size);
  Attending attending;
  if (scratch.failed() || !delta || !sums || !attending.build(p)) return 1;
  std::fill(sums.get(), sums.get() + (row_parts + 1) * sum_size, 0.0);

  auto rows = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * ROWS_PER_PART;
    kernels.backward_rows(p, *grad, delta.get(), sums.get() + part * sum_size, begin,
                          std::min(begin + ROWS_PER_PART, p.total), scratch[worker]);
  };
  arta::parallel(row_parts, p.threads, rows);

  auto clusters = [&](int64_t worker, int64_t part) {
    const int64_t begin = part * CLUSTERS_PER_PART;
    kernels.backward_clusters(p, *grad, delta.get(), attending.first.get(), attending.rows.get(),
                              begin, std::min(begin + CLUSTERS_PER_PART, p.clusters),
                              scratch[worker]);
  };
  arta::parallel(cluster_parts, p.threads, clusters);

  double* all = sums.get() + row_parts * sum_size;
  for (int64_t part = 0; part < row_parts; ++part)
    for (int64_t i = 0; i < sum_size; ++i) all[i] += sums[part * sum_size + i];
  if (p.is_double)
    write_sums<double>(p, *grad, all);
  else
    write_sums<float>(p, *grad, all);
  return 0;
}
