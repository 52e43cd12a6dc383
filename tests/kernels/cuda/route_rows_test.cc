// Routing on a device: the reference's choice and bits, for the rules of every family.
#include <algorithm>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

using Score = RouterArgs::Score;
using GroupScore = RouterArgs::GroupScore;
using Logits = std::vector<std::vector<float>>;  // [rows][experts]

constexpr Score kScores[] = {Score::kSoftmax, Score::kSigmoid, Score::kSoftmaxOfSelected};

// Routes all rows at once on the device and one by one by the reference.
void ExpectReferenceChoice(const RouterArgs& rules, const Logits& logits,
                           const std::vector<float>& bias = {}) {
  const size_t experts = logits[0].size();
  const size_t stride = (experts + 15) / 16 * 16;
  const auto top_k = static_cast<size_t>(rules.top_k);
  std::vector<float> rows(logits.size() * stride, std::numeric_limits<float>::infinity());
  for (size_t r = 0; r < logits.size(); ++r) {
    std::copy(logits[r].begin(), logits[r].end(), rows.data() + r * stride);
  }
  DeviceCase memory;
  const RouteRowsArgs args = {.logits = memory.Input(rows),
                              .stride = static_cast<int64_t>(stride),
                              .bias = bias.empty() ? nullptr : memory.Input(bias),
                              .rows = static_cast<int64_t>(logits.size()),
                              .expert_count = static_cast<int32_t>(experts),
                              .top_k = rules.top_k,
                              .group_count = rules.group_count,
                              .groups_used = rules.groups_used,
                              .group_score = rules.group_score,
                              .score = rules.score,
                              .normalize = rules.normalize,
                              .weight_scale = rules.weight_scale,
                              .experts = memory.Output<int32_t>(logits.size() * top_k),
                              .weights = memory.Output<float>(logits.size() * top_k)};
  ASSERT_TRUE(memory.Run(TwinOps().route_rows, args));
  for (size_t r = 0; r < logits.size(); ++r) {
    std::vector<int32_t> chosen(top_k);
    std::vector<float> weights(top_k);
    RouterArgs row = rules;
    row.logits = logits[r].data();
    row.bias = bias.empty() ? nullptr : bias.data();
    row.expert_count = static_cast<int>(experts);
    row.experts = chosen.data();
    row.weights = weights.data();
    reference::Route(row);
    EXPECT_EQ(std::vector<int32_t>(args.experts + r * top_k, args.experts + (r + 1) * top_k),
              chosen)
        << "row " << r;
    EXPECT_TRUE(SameBits(std::span(args.weights + r * top_k, top_k), weights)) << "row " << r;
  }
}

struct Family {
  const char* name;
  size_t expert_count;
  RouterArgs rules;
  bool biased = false;
};

const Family kFamilies[] = {
    {"mixtral", 8, {.top_k = 2, .normalize = true}},
    {"qwen3moe", 128, {.top_k = 8, .normalize = true}},
    {"olmoe", 64, {.top_k = 8}},
    {"deepseek2",
     160,
     {.top_k = 6,
      .group_count = 8,
      .groups_used = 3,
      .group_score = GroupScore::kMax,
      .weight_scale = 16.0f}},
    {"deepseek3",
     256,
     {.top_k = 8,
      .group_count = 8,
      .groups_used = 4,
      .score = Score::kSigmoid,
      .normalize = true,
      .weight_scale = 2.5f},
     true},
    {"kimi-k2",
     384,
     {.top_k = 8, .score = Score::kSigmoid, .normalize = true, .weight_scale = 2.827f},
     true},
    {"selected", 32, {.top_k = 4, .score = Score::kSoftmaxOfSelected}},
    {"largest",
     1024,
     {.top_k = 64,
      .group_count = 32,
      .groups_used = 7,
      .score = Score::kSigmoid,
      .normalize = true},
     true},
    {"all of the largest", 1024, {.top_k = 1024, .score = Score::kSoftmaxOfSelected}},
    {"odd", 37, {.top_k = 37, .normalize = true}, true},
    {"singles", 5, {.top_k = 3, .group_count = 5, .groups_used = 3}},
    {"many groups",
     120,
     {.top_k = 9, .group_count = 40, .groups_used = 33, .score = Score::kSigmoid}},
    {"one", 1, {.top_k = 1, .normalize = true}},
};

TEST(DeviceRouteRows, EveryFamilyGivesReferenceBits) {
  Random random(17);
  std::normal_distribution<float> normal;
  for (const Family& family : kFamilies) {
    SCOPED_TRACE(family.name);
    std::vector<float> bias(family.biased ? family.expert_count : 0);
    std::generate(bias.begin(), bias.end(), [&] { return normal(random) * 0.1f; });
    Logits logits;
    for (const float spread : {0.0f, 0.01f, 2.0f, 60.0f}) {
      std::vector<float>& row = logits.emplace_back(family.expert_count);
      std::generate(row.begin(), row.end(), [&] { return normal(random) * spread; });
    }
    ExpectReferenceChoice(family.rules, logits, bias);
  }
}

TEST(DeviceRouteRows, EqualScoresGoToTheLowerIndex) {
  // Few values over many lanes, so that ties meet within a lane, across lanes and across groups.
  Random random(3);
  Logits logits(6, std::vector<float>(200));
  for (std::vector<float>& row : logits) {
    std::generate(row.begin(), row.end(), [&] { return static_cast<float>(random() % 3); });
  }
  for (const Score score : kScores) {
    for (const GroupScore group_score : {GroupScore::kMax, GroupScore::kSumOfTopTwo}) {
      ExpectReferenceChoice({.top_k = 40, .score = score}, logits);
      ExpectReferenceChoice({.top_k = 40,
                             .group_count = 10,
                             .groups_used = 4,
                             .group_score = group_score,
                             .score = score},
                            logits);
    }
  }
  // A bias can make a score of -0: it equals +0.
  ExpectReferenceChoice({.top_k = 3, .score = Score::kSoftmaxOfSelected},
                        {{-1, -0.0f, 0.0f, -0.0f}, {0.0f, -0.0f, -0.0f, 1}});
}

TEST(DeviceRouteRows, AnUnselectedGroupLosesToNegativeScores) {
  ExpectReferenceChoice(
      {.top_k = 2, .group_count = 2, .groups_used = 1, .score = Score::kSoftmaxOfSelected},
      {{-9, -9, -1, -2}, {-1, -2, -9, -9}});
}

TEST(DeviceRouteRows, VanishingWeightsAreDividedByTheLeastSum) {
  ExpectReferenceChoice({.top_k = 1, .score = Score::kSigmoid, .normalize = true},
                        {{-20.0f, -21.0f}, {-3.0f, -2.0f}});
}

TEST(DeviceRouteRows, NansAndInfinitiesChooseAsTheReferenceDoes) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  Random random(9);
  for (const float bad : {nan, -nan, inf, -inf}) {
    Logits logits = {std::vector<float>(96, bad)};
    for (const uint64_t every : {2, 5, 40}) {
      std::vector<float>& row = logits.emplace_back(96);
      std::generate(row.begin(), row.end(),
                    [&] { return random() % every == 0 ? bad : static_cast<float>(random() % 9); });
      row[0] = every == 5 ? bad : 0;
    }
    for (const Score score : kScores) {
      ExpectReferenceChoice({.top_k = 20, .score = score, .normalize = true}, logits);
      ExpectReferenceChoice({.top_k = 20, .group_count = 4, .groups_used = 3, .score = score},
                            logits);
      ExpectReferenceChoice({.top_k = 96, .score = score}, logits);
    }
  }
}

}  // namespace
}  // namespace stoker
