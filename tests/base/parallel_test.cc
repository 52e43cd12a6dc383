// Claims about the thread team.
#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

namespace stoker {
namespace {

TEST(ThreadTeam, EveryItemRunsExactlyOnceInChunksOfTheGrain) {
  for (const int threads : {1, 2, 5}) {
    ThreadTeam team({.thread_count = threads});
    for (const int64_t count : {0, 1, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> ran(static_cast<size_t>(count));
        team.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LE(end - begin, grain);
          EXPECT_TRUE(worker >= 0 && worker < threads);
          for (int64_t i = begin; i < end; ++i) ran[static_cast<size_t>(i)].fetch_add(1);
        });
        for (const auto& times : ran) EXPECT_EQ(times.load(), 1);
      }
    }
  }
}

TEST(ThreadTeam, WorkersNeverShareAnIndexAtOneTime) {
  ThreadTeam team({.thread_count = 4});
  std::vector<int64_t> sum(4 * 16);  // one cache line each; a data race here is a finding of tsan
  for (int region = 0; region < 2000; ++region) {
    team.ParallelFor(32, 1, [&](int64_t begin, int64_t, int worker) {
      sum[static_cast<size_t>(worker) * 16] += begin;
    });
  }
  int64_t total = 0;
  for (size_t w = 0; w < 4; ++w) total += sum[w * 16];
  EXPECT_EQ(total, int64_t{2000} * (31 * 32 / 2));
}

// A worker that has looked at the end of a short region and claims only when a longer one is being
// set up must come away with nothing. It once took a chunk of the next region, which then ended
// while that chunk still ran.
TEST(ThreadTeam, AWorkerHeldUpInAShortRegionClaimsNothingOfTheNext) {
  ThreadTeam team({.thread_count = 2});
  std::vector<std::atomic<int>> ran(64);
  for (int region = 0; region < 20'000; ++region) {
    std::atomic<int> ran_short{0};
    team.ParallelFor(2, 1, [&](int64_t, int64_t, int) { ran_short.fetch_add(1); });
    ASSERT_EQ(ran_short.load(), 2);
    for (auto& times : ran) times.store(0, std::memory_order_relaxed);
    team.ParallelFor(64, 1, [&](int64_t begin, int64_t, int) {
      ran[static_cast<size_t>(begin)].fetch_add(1, std::memory_order_relaxed);
    });
    for (const auto& times : ran) ASSERT_EQ(times.load(), 1) << "region " << region;
  }
}

TEST(ThreadTeam, WhatBodiesWroteIsVisibleAfterTheRegion) {
  ThreadTeam team({.thread_count = 3});
  std::vector<int> values(300);
  for (int round = 1; round <= 500; ++round) {
    team.ParallelFor(300, 7, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] = round;
    });
    for (const int value : values) ASSERT_EQ(value, round);
  }
}

TEST(ThreadTeam, SleepingWorkersWakeForTheNextRegion) {
  ThreadTeam team({.thread_count = 2, .spin_ns = 0});  // sleeps as soon as it is idle
  std::atomic<int64_t> done{0};
  for (int region = 0; region < 1000; ++region) {
    team.ParallelFor(8, 1, [&](int64_t, int64_t, int) { done.fetch_add(1); });
  }
  EXPECT_EQ(done.load(), 8000);
}

TEST(ThreadTeam, TeamsLiveSideBySideAndEndInAnyOrder) {
  auto first = std::make_unique<ThreadTeam>(ThreadTeam::Options{.thread_count = 3});
  ThreadTeam second({.thread_count = 4});
  std::atomic<int> done{0};
  const auto body = [&](int64_t, int64_t, int) { done.fetch_add(1); };
  first->ParallelFor(10, 1, body);
  second.ParallelFor(10, 1, body);
  first.reset();
  second.ParallelFor(10, 1, body);
  EXPECT_EQ(done.load(), 30);
}

}  // namespace
}  // namespace stoker
