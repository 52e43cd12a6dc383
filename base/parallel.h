// The thread team: the only door to oneTBB, and to any other thread that computes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"

namespace stoker {

// A fixed team of threads for short regions. The caller is worker 0 and always takes part; a region
// ends when all its chunks are done, so it never depends on how many of the others showed up.
// Between regions the others spin for a bounded time and then sleep, so that a decode step's
// hundreds of small regions each cost about a microsecond and an idle engine costs nothing. One
// region at a time, started by one thread.
class ThreadTeam {
 public:
  struct Options {
    int thread_count = 1;       // workers including the caller; at least 1
    std::vector<int> cpus;      // logical processors to pin workers to, in order; empty: not pinned
    int64_t spin_ns = 200'000;  // how long an idle worker spins before it sleeps
  };
  explicit ThreadTeam(const Options& options);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int thread_count() const;

  // Calls body(begin, end, worker) over disjoint chunks that cover [0, count), each at most `grain`
  // long (the last may be shorter) and starting at a multiple of `grain`; worker is in [0,
  // thread_count()). Returns when all are done; what the bodies wrote is visible to the caller.
  // `body` must not throw and must not start a region.
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end, int worker)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stoker
