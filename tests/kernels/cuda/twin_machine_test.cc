// The machine that kernels' twins run on: it computes what CUDA defines, makes what CUDA leaves
// undefined visible, and stops at what can only be a mistake.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/port.cuh"

namespace stoker::twin {
namespace {

using testing::Each;

// Runs `body` as a kernel of `threads` threads in each of `blocks` blocks.
int Launch(const LaunchShape& shape, const std::function<void()>& body) {
  const auto run = [](const std::function<void()>* kernel) { (*kernel)(); };
  return LaunchKernel(static_cast<void (*)(const std::function<void()>*)>(run), shape, nullptr,
                      &body);
}

std::vector<MachineOptions> AllOptions() {
  std::vector<MachineOptions> all;
  for (const uint8_t pattern : {0xff, 0x5a}) {
    for (const bool threads : {false, true}) {
      for (const bool blocks : {false, true}) {
        all.push_back({.pattern = pattern, .threads_backward = threads, .blocks_backward = blocks});
      }
    }
  }
  return all;
}

// Whether `body`, which fills `out`, fills it alike under all options.
bool IsSameUnderAllOptions(const LaunchShape& shape, std::vector<uint32_t>& out,
                           const std::function<void()>& body) {
  std::vector<uint32_t> first;
  for (const MachineOptions& options : AllOptions()) {
    const ScopedMachineOptions scope(options);
    std::fill(out.begin(), out.end(), 0);
    EXPECT_EQ(Launch(shape, body), 0);
    if (first.empty()) first = out;
    if (first != out) return false;
  }
  return true;
}

int Thread() { return static_cast<int>(threadIdx.x); }

TEST(TwinMachine, RunsEachThreadOfEachBlockOnce) {
  std::vector<int> seen(3 * 2 * 2 * 5 * 3 * 2);
  ASSERT_EQ(Launch({.grid = {3, 2, 2}, .block = {5, 3, 2}},
                   [&] {
                     const unsigned block =
                         blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
                     const unsigned thread =
                         threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
                     ++seen[block * 30 + thread];
                   }),
            0);
  EXPECT_THAT(seen, Each(1));
}

TEST(TwinMachine, RunsBlocksAndThreadsInTheOrderAskedFor) {
  std::vector<unsigned> order;
  const auto note = [&] { order.push_back(blockIdx.x * 100 + threadIdx.x); };
  Launch({.grid = 2, .block = 2}, note);
  const ScopedMachineOptions scope({.threads_backward = true, .blocks_backward = true});
  Launch({.grid = 2, .block = 2}, note);
  EXPECT_THAT(order, testing::ElementsAre(0, 1, 100, 101, 101, 100, 1, 0));
}

TEST(TwinMachine, RefusesWhatAGpuWouldRefuse) {
  bool ran = false;
  const auto body = [&] { ran = true; };
  EXPECT_EQ(Launch({.grid = 1, .block = 1025}, body), kInvalidConfiguration);
  EXPECT_EQ(Launch({.grid = 1, .block = {1, 1, 65}}, body), kInvalidConfiguration);
  EXPECT_EQ(Launch({.grid = {1, 65536}, .block = 1}, body), kInvalidConfiguration);
  EXPECT_EQ(Launch({.grid = 1, .block = 1, .dynamic_shared_bytes = kSharedBytesMax + 1}, body),
            kInvalidValue);
  EXPECT_FALSE(ran);
}

TEST(TwinMachine, AGridWithoutBlocksIsNothingToDo) {
  bool ran = false;
  EXPECT_EQ(Launch({.grid = 0, .block = 32}, [&] { ran = true; }), 0);
  EXPECT_FALSE(ran);
}

TEST(TwinMachine, BarriersOrderSharedMemory) {
  std::vector<uint32_t> out(256);
  EXPECT_TRUE(IsSameUnderAllOptions({.grid = 2, .block = 128}, out, [&] {
    STOKER_SHARED_ARRAY(uint32_t, values, 128);
    for (int round = 0; round < 3; ++round) {
      values[Thread()] = static_cast<uint32_t>(round * 1000 + Thread());
      __syncthreads();
      out[blockIdx.x * 128 + threadIdx.x] += values[(Thread() + 77) % 128];
      __syncthreads();
    }
  }));
  EXPECT_EQ(out[0], 3000u + 3 * 77);
}

TEST(TwinMachine, DynamicSharedMemoryIsOfTheBlock) {
  std::vector<uint32_t> out(64);
  EXPECT_TRUE(
      IsSameUnderAllOptions({.grid = 1, .block = 64, .dynamic_shared_bytes = 256}, out, [&] {
        STOKER_DYNAMIC_SHARED(uint32_t, values);
        values[Thread()] = threadIdx.x;
        __syncthreads();
        out[threadIdx.x] = values[63 - Thread()];
      }));
  EXPECT_EQ(out[0], 63u);
}

TEST(TwinMachine, AMissingBarrierShows) {
  std::vector<uint32_t> out(64);
  EXPECT_FALSE(IsSameUnderAllOptions({.grid = 1, .block = 64}, out, [&] {
    STOKER_SHARED_ARRAY(uint32_t, values, 64);
    values[Thread()] = threadIdx.x;
    out[threadIdx.x] = values[63 - Thread()];
  }));
}

TEST(TwinMachine, AReadOfUnwrittenSharedMemoryShows) {
  std::vector<uint32_t> out(1);
  EXPECT_FALSE(IsSameUnderAllOptions({.grid = 1, .block = 1}, out, [&] {
    STOKER_SHARED_ARRAY(uint32_t, values, 2);
    values[0] = 1;
    out[0] = values[0] + values[1];
  }));
}

TEST(TwinMachine, SharedMemoryDoesNotOutliveABlock) {
  std::vector<uint32_t> out(2);
  EXPECT_FALSE(IsSameUnderAllOptions({.grid = 2, .block = 1}, out, [&] {
    STOKER_SHARED(uint32_t, value);
    if (blockIdx.x == 0) value = 7;
    out[blockIdx.x] = value;
  }));
}

TEST(TwinMachine, ADependenceOnTheOrderOfBlocksShows) {
  std::vector<uint32_t> out(2);
  EXPECT_FALSE(IsSameUnderAllOptions({.grid = 2, .block = 1}, out,
                                     [&] { out[blockIdx.x] = out[1 - blockIdx.x] + 1; }));
}

TEST(TwinMachine, ShufflesTakeFromTheLaneThatTheyName) {
  std::vector<uint32_t> out(64);
  const auto shuffled = [&](const std::function<int(int)>& shuffle) {
    EXPECT_TRUE(IsSameUnderAllOptions({.grid = 1, .block = 64}, out, [&] {
      out[threadIdx.x] = static_cast<uint32_t>(shuffle(Thread()));
    }));
    return std::vector<int>(out.begin(), out.end());
  };
  const auto expect = [&](const std::function<int(int)>& shuffle,
                          const std::function<int(int lane)>& source) {
    const std::vector<int> actual = shuffled(shuffle);
    for (int t = 0; t < 64; ++t) EXPECT_EQ(actual[t], t / 32 * 32 + source(t % 32)) << t;
  };
  expect([](int t) { return __shfl_sync(kAllLanes, t, 5); }, [](int) { return 5; });
  expect([](int t) { return __shfl_sync(kAllLanes, t, 1, 8); },
         [](int l) { return l / 8 * 8 + 1; });
  expect([](int t) { return __shfl_xor_sync(kAllLanes, t, 16); }, [](int l) { return l ^ 16; });
  expect([](int t) { return __shfl_down_sync(kAllLanes, t, 3); },
         [](int l) { return l + 3 < 32 ? l + 3 : l; });
  expect([](int t) { return __shfl_down_sync(kAllLanes, t, 1, 4); },
         [](int l) { return l % 4 < 3 ? l + 1 : l; });
  expect([](int t) { return __shfl_up_sync(kAllLanes, t, 2); },
         [](int l) { return l >= 2 ? l - 2 : l; });
}

TEST(TwinMachine, EightByteValuesAreShuffledWhole) {
  std::vector<uint32_t> out(32);
  Launch({.grid = 1, .block = 32}, [&] {
    const uint64_t value = (uint64_t{threadIdx.x} << 40) | threadIdx.x;
    out[threadIdx.x] = __shfl_xor_sync(kAllLanes, value, 1) ==
                       ((uint64_t{threadIdx.x ^ 1} << 40) | (threadIdx.x ^ 1));
  });
  EXPECT_THAT(out, Each(1u));
}

TEST(TwinMachine, AReadOfALaneThatTakesNoPartShows) {
  std::vector<uint32_t> out(16);
  EXPECT_FALSE(IsSameUnderAllOptions({.grid = 1, .block = 32}, out, [&] {
    if (Thread() < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, threadIdx.x, Thread() + 1);
  }));
}

TEST(TwinMachine, PartsOfAWarpMeetOnTheirOwn) {
  std::vector<uint32_t> out(32);
  EXPECT_TRUE(IsSameUnderAllOptions({.grid = 1, .block = 32}, out, [&] {
    const bool low = Thread() < 16;
    const uint32_t mask = low ? 0x0000ffffu : 0xffff0000u;
    int value = Thread();
    for (int round = 0; round < (low ? 2 : 5); ++round) value = __shfl_xor_sync(mask, value, 1);
    out[threadIdx.x] = static_cast<uint32_t>(value);
  }));
  EXPECT_EQ(out[0], 0u);
  EXPECT_EQ(out[16], 17u);
}

TEST(TwinMachine, VotesAndReductionsSeeEveryLaneOfTheMask) {
  std::vector<uint32_t> out(32);
  Launch({.grid = 1, .block = 32}, [&] {
    const int value = Thread() - 7;
    const bool right =
        __ballot_sync(kAllLanes, Thread() % 2) == 0xaaaaaaaau &&
        __any_sync(kAllLanes, Thread() == 9) == 1 && __all_sync(kAllLanes, Thread() == 9) == 0 &&
        __reduce_add_sync(kAllLanes, value) == 31 * 16 - 7 * 32 &&
        __reduce_min_sync(kAllLanes, value) == -7 && __reduce_max_sync(kAllLanes, value) == 24;
    out[threadIdx.x] = right;
  });
  EXPECT_THAT(out, Each(1u));
}

TEST(TwinMachine, AThreadCanWaitForMemoryToChange) {
  std::vector<uint32_t> out(33);
  EXPECT_TRUE(IsSameUnderAllOptions({.grid = 1, .block = 33}, out, [&] {
    STOKER_SHARED(uint32_t, turn);
    if (Thread() == 0) turn = 0;
    __syncthreads();
    while (turn != threadIdx.x) WaitALittle();
    out[threadIdx.x] = turn++;
  }));
  EXPECT_EQ(out[32], 32u);
}

TEST(TwinMachine, MultipliesBytesAndPicksThem) {
  EXPECT_EQ(__dp4a(0x7f80ff01, 0x0180ff02, 10), 10 + 127 + 128 * 128 + 1 + 2);
  EXPECT_EQ(__dp4a(0x7f80ff01u, 0x0180ff02u, 10u), 10u + 127 + 128 * 128 + 255 * 255 + 2);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7025u), 0x77002255u);
  EXPECT_EQ(__funnelshift_r(0x33221100u, 0x77665544u, 16), 0x55443322u);
}

using TwinMachineDeathTest = testing::Test;

TEST(TwinMachineDeathTest, ABarrierThatSomeThreadsSkipIsReported) {
  EXPECT_DEATH(Launch({.kernel = "skips", .grid = 3, .block = 64},
                      [] {
                        if (blockIdx.x == 1 && Thread() == 40) return;
                        __syncthreads();
                      }),
               "waits at __syncthreads.*twin_machine_test.cc(.|\n)*thread \\(40, 0, 0\\) has "
               "returned\nkernel 'skips', block \\(1, 0, 0\\).*never come");
}

// Outside of the assertion, whose lines are all one to the compiler.
void MeetAtDifferentBarriers() {
  if (Thread() < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST(TwinMachineDeathTest, DifferentBarriersDoNotMeet) {
  EXPECT_DEATH(Launch({.kernel = "branches", .grid = 1, .block = 64}, MeetAtDifferentBarriers),
               "kernel 'branches'.*thread \\(32, 0, 0\\).*different barriers");
}

TEST(TwinMachineDeathTest, AShuffleWithAMissingLaneIsReported) {
  EXPECT_DEATH(Launch({.kernel = "lonely", .grid = 1, .block = 32},
                      [] {
                        if (Thread() != 3) __shfl_xor_sync(kAllLanes, 1, 1);
                      }),
               "waits in a shuffle of lanes ffffffff(.|\n)*kernel 'lonely'");
}

TEST(TwinMachineDeathTest, AShuffleInAWarpThatIsNotWholeIsReported) {
  EXPECT_DEATH(
      Launch({.kernel = "short", .grid = 1, .block = 20}, [] { __shfl_xor_sync(kAllLanes, 1, 1); }),
      "kernel 'short'.*never come");
}

TEST(TwinMachineDeathTest, DifferentOperationsOfOneMaskDoNotMeet) {
  EXPECT_DEATH(Launch({.kernel = "mixed", .grid = 1, .block = 32},
                      [] {
                        if (Thread() % 2 == 0) {
                          __syncwarp();
                        } else {
                          __ballot_sync(kAllLanes, 1);
                        }
                      }),
               "waits in a vote(.|\n)*kernel 'mixed'.*different warp operations");
}

TEST(TwinMachineDeathTest, ALaneOutsideItsOwnMaskIsReported) {
  EXPECT_DEATH(Launch({.kernel = "outside", .grid = 1, .block = 32},
                      [] { __shfl_xor_sync(0x0000ffffu, 1, 1); }),
               "kernel 'outside'.*not in the mask");
}

TEST(TwinMachineDeathTest, WaitingForWhatNeverComesIsReported) {
  EXPECT_DEATH(Launch({.kernel = "forever", .grid = 1, .block = 2},
                      [] {
                        for (;;) WaitALittle();
                      }),
               "waits for memory to change(.|\n)*kernel 'forever'");
}

// Under the address sanitizer the access itself is reported.
TEST(TwinMachineDeathTest, AWriteBeyondASharedArrayIsReported) {
  EXPECT_DEATH(Launch({.kernel = "beyond", .grid = 1, .block = 32},
                      [] {
                        STOKER_SHARED_ARRAY(uint32_t, values, 32);
                        uint32_t* own = values + Thread();
                        own[1] = 1;
                      }),
               "beyond 'values'\nkernel 'beyond'|AddressSanitizer");
}

TEST(TwinMachineDeathTest, AWriteBeforeDynamicSharedMemoryIsReported) {
  EXPECT_DEATH(Launch({.kernel = "before", .grid = 1, .block = 1, .dynamic_shared_bytes = 64},
                      [] {
                        STOKER_DYNAMIC_SHARED(volatile uint32_t, values);
                        int index = -1;
                        values[index] = 1;
                      }),
               "beyond 'dynamic shared memory'\nkernel 'before'|AddressSanitizer");
}

}  // namespace
}  // namespace stoker::twin
