// What a region of the thread team costs: the price of every parallel step of a token.
#include <benchmark/benchmark.h>

#include <cstdint>

#include "base/parallel.h"

namespace stoker {
namespace {

// Regions back to back, as in a decode step: workers are spinning when the next one comes.
void Region(benchmark::State& state) {
  ThreadTeam team({.thread_count = static_cast<int>(state.range(0))});
  int64_t sink = 0;
  for (auto _ : state) {
    team.ParallelFor(state.range(1), 1, [&](int64_t begin, int64_t, int worker) {
      if (worker == 0) sink += begin;
    });
  }
  benchmark::DoNotOptimize(sink);
}
BENCHMARK(Region)
    ->ArgNames({"threads", "chunks"})
    ->Args({1, 16})
    ->Args({2, 2})
    ->Args({2, 16})
    ->Args({2, 64});

}  // namespace
}  // namespace stoker

BENCHMARK_MAIN();
