#include "parallel.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#include "interface.h"

namespace arta {
namespace {

struct Team {
  std::atomic<int64_t> next_part{0};
  std::atomic<int64_t> next_worker{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // of the thread that set `failed`
  int64_t parts;
  void (*job)(void*, int64_t, int64_t);
  void* context;
};

void work(void* argument) {
  Team& team = *static_cast<Team*>(argument);
  const int64_t worker = team.next_worker.fetch_add(1);
  // An exception must not leave a thread: it waits until all have ended.
  try {
    for (int64_t part; (part = team.next_part.fetch_add(1)) < team.parts;)
      team.job(team.context, worker, part);
  } catch (...) {
    if (!team.failed.exchange(true)) team.error = std::current_exception();
    team.next_part = team.parts;
  }
}

// PyTorch's threads wait busily for their next job for a while. A second set of threads would
// compete with them for the same cores, so the OpenMP runtime that the process has is used, found
// by the name of its entry point: the library is linked to none.
using Fork = void (*)(void (*)(void*), void*, unsigned, unsigned);

Fork openmp_fork() {
  static const Fork fork = reinterpret_cast<Fork>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return fork;
}

void spawn(Team& team, int64_t threads) {
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads));
  try {
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(work, &team);
  } catch (...) {
    // No more threads to be had: those that run take all parts.
  }
  work(&team);
  for (std::thread& other : others) other.join();
}

}  // namespace

int64_t workers_for(int64_t parts, int64_t threads) {
  return std::max<int64_t>(1, std::min(parts, threads));
}

bool shares_openmp() { return openmp_fork() != nullptr; }

void run_parts(int64_t parts, int64_t threads, void (*job)(void*, int64_t, int64_t),
               void* context) {
  threads = workers_for(parts, threads);
  Team team;
  team.parts = parts;
  team.job = job;
  team.context = context;
  if (threads == 1)
    work(&team);
  else if (Fork fork = openmp_fork())
    fork(work, &team, static_cast<unsigned>(threads), 0);
  else
    spawn(team, threads);
  if (team.failed) std::rethrow_exception(team.error);
}

}  // namespace arta

// Whether work runs on the OpenMP threads of the process (1) or on threads made per call (0).
ARTA_API int64_t arta_cpu_shares_openmp() noexcept { return arta::shares_openmp(); }
