// Pairs by expert: the tasks and lists that the host's plan makes of the same choices.
#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_case.h"

namespace stoker {
namespace {

constexpr int kStride = 4;
constexpr int64_t kUpOffset = 48;

// Where a part would be; never read.
const std::byte* PartOf(int32_t expert, int part) {
  return reinterpret_cast<const std::byte*>(
      static_cast<uintptr_t>(0x10000 + expert * 1000 + part * 100));
}

struct Expected {
  std::vector<int32_t> experts;  // in the order of their first pair
  std::vector<std::vector<int32_t>> pairs;
};
Expected Group(const std::vector<int32_t>& chosen) {
  Expected expected;
  for (size_t pair = 0; pair < chosen.size(); ++pair) {
    const auto at = std::find(expected.experts.begin(), expected.experts.end(), chosen[pair]);
    const auto index = static_cast<size_t>(at - expected.experts.begin());
    if (at == expected.experts.end()) {
      expected.experts.push_back(chosen[pair]);
      expected.pairs.emplace_back();
    }
    expected.pairs[index].push_back(static_cast<int32_t>(pair));
  }
  return expected;
}

void ExpectGrouped(const std::vector<int32_t>& chosen, bool is_fused = false) {
  const int32_t expert_count = *std::max_element(chosen.begin(), chosen.end()) + 1;
  std::vector<const std::byte*> parts;
  for (int32_t e = 0; e < expert_count; ++e) {
    for (int p = 0; p < kStride; ++p) parts.push_back(PartOf(e, p));
  }
  DeviceCase memory;
  const size_t count = chosen.size();
  const GroupPairsArgs args = {.experts = memory.Input(chosen),
                               .pair_count = static_cast<int32_t>(count),
                               .addresses = {.parts = memory.Input(parts),
                                             .part_stride = kStride,
                                             .gate_part = 0,
                                             .up_part = is_fused ? 0 : 1,
                                             .down_part = is_fused ? 1 : 2,
                                             .up_offset_bytes = is_fused ? kUpOffset : 0},
                               .tasks = memory.Output<ExpertTask>(count),
                               .pairs = memory.Output<int32_t>(count),
                               .task_count = memory.Output<int32_t>(1)};
  ASSERT_TRUE(memory.Run(TwinOps().group_pairs, args));
  const Expected expected = Group(chosen);
  ASSERT_EQ(*args.task_count, static_cast<int32_t>(expected.experts.size()));
  int32_t first = 0;
  for (size_t t = 0; t < expected.experts.size(); ++t) {
    const ExpertTask& task = args.tasks[t];
    const int32_t expert = expected.experts[t];
    EXPECT_EQ(task.gate, PartOf(expert, 0));
    EXPECT_EQ(task.up, is_fused ? PartOf(expert, 0) + kUpOffset : PartOf(expert, 1));
    EXPECT_EQ(task.down, PartOf(expert, is_fused ? 1 : 2));
    ASSERT_EQ(task.first_pair, first);
    ASSERT_EQ(task.pair_count, static_cast<int32_t>(expected.pairs[t].size()));
    EXPECT_TRUE(std::equal(expected.pairs[t].begin(), expected.pairs[t].end(), args.pairs + first));
    first += task.pair_count;
  }
}

TEST(DeviceGroupPairs, OfOneRowAreATaskEach) {
  ExpectGrouped({5});
  ExpectGrouped({9, 2, 0, 31, 7, 5, 1, 30});
}

TEST(DeviceGroupPairs, OfRowsThatShareExpertsMeetInTheirTasks) {
  ExpectGrouped({3, 1, 1, 3, 1, 0, 2, 3});
  ExpectGrouped({4, 4, 4, 4, 4});
  ExpectGrouped({0, 1, 1, 0}, /*is_fused=*/true);
}

TEST(DeviceGroupPairs, MayBeAsManyAsABlockHasThreads) {
  std::mt19937 random(3);
  for (const int count : {31, 32, 33, 100, 255, kGroupedPairsMax}) {
    for (const int experts : {1, 7, 256, 1024}) {
      std::vector<int32_t> chosen;
      for (int i = 0; i < count; ++i) chosen.push_back(static_cast<int32_t>(random() % experts));
      ExpectGrouped(chosen);
    }
  }
}

TEST(DeviceGroupPairs, OfNoRowsAreNothingToDo) {
  EXPECT_EQ(TwinOps().group_pairs.run(std::make_unique<GroupPairsArgs>().get(), nullptr), 0);
}

TEST(DeviceGroupPairs, BeyondTheBoundAreRefused) {
  const GroupPairsArgs args = {.pair_count = kGroupedPairsMax + 1};
  EXPECT_NE(TwinOps().group_pairs.run(&args, nullptr), 0);
}

}  // namespace
}  // namespace stoker
