// Runs numbered parts of a job on several threads.
#pragma once

#include <cstdint>

namespace arta {

// Calls `job(context, worker, part)` once for every part in 0..parts-1. `worker` is below
// `threads` and no two calls with the same worker overlap. Parts are handed out as threads
// become free, so what a part computes must depend on nothing but its number. Throws what a job
// threw.
void run_parts(int64_t parts, int64_t threads, void (*job)(void*, int64_t, int64_t),
               void* context);

// How many workers run_parts can use for that many parts.
int64_t workers_for(int64_t parts, int64_t threads);

bool shares_openmp();

template <class Job>
void parallel(int64_t parts, int64_t threads, Job& job) {
  run_parts(
      parts, threads,
      [](void* context, int64_t worker, int64_t part) {
        (*static_cast<Job*>(context))(worker, part);
      },
      &job);
}

}  // namespace arta
