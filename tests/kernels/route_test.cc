// Routing: the rules of each model family on cases worked by hand, and the reference's bits from
// every backend.
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

using testing::ElementsAre;
using Score = RouterArgs::Score;
using GroupScore = RouterArgs::GroupScore;

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

// Routes with outputs between guards.
Choice Route(const Ops& ops, RouterArgs args, const std::vector<float>& logits,
             const std::vector<float>& bias = {}) {
  std::vector<int32_t> experts(static_cast<size_t>(args.top_k) + 2, -7);
  std::vector<float> weights(static_cast<size_t>(args.top_k) + 2, -7.0f);
  args.logits = logits.data();
  args.bias = bias.empty() ? nullptr : bias.data();
  args.expert_count = static_cast<int>(logits.size());
  args.experts = experts.data() + 1;
  args.weights = weights.data() + 1;
  ops.route(args);
  EXPECT_THAT((std::vector{experts.front(), experts.back()}), ElementsAre(-7, -7));
  EXPECT_THAT((std::vector{weights.front(), weights.back()}), ElementsAre(-7.0f, -7.0f));
  return {{experts.begin() + 1, experts.end() - 1}, {weights.begin() + 1, weights.end() - 1}};
}

class RouteOnAnyBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }
};

TEST_P(RouteOnAnyBackend, SoftmaxIsOverAllExperts) {
  const float step = std::log(2.0f);
  const Choice choice = Route(ops(), {.top_k = 2}, {0, 2 * step, step, 0});
  EXPECT_THAT(choice.experts, ElementsAre(1, 2));
  EXPECT_THAT(choice.weights, ElementsAre(testing::FloatEq(0.5f), testing::FloatEq(0.25f)));
}

TEST_P(RouteOnAnyBackend, NormalizedSoftmaxSumsToTheScale) {
  const float step = std::log(2.0f);
  const Choice choice =
      Route(ops(), {.top_k = 2, .normalize = true, .weight_scale = 3.0f}, {0, 2 * step, step, 0});
  EXPECT_THAT(choice.weights, ElementsAre(testing::FloatEq(2.0f), testing::FloatEq(1.0f)));
}

TEST_P(RouteOnAnyBackend, SoftmaxOfSelectedSumsToOne) {
  const float step = std::log(3.0f);
  const Choice choice =
      Route(ops(), {.top_k = 2, .score = Score::kSoftmaxOfSelected}, {-5, 1, 1 + step, 0});
  EXPECT_THAT(choice.experts, ElementsAre(2, 1));
  EXPECT_THAT(choice.weights, ElementsAre(testing::FloatEq(0.75f), testing::FloatEq(0.25f)));
}

TEST_P(RouteOnAnyBackend, TheBiasChoosesButDoesNotWeigh) {
  const Choice choice =
      Route(ops(), {.top_k = 1, .score = Score::kSigmoid}, {4, 0, -1}, {0.0f, 0.0f, 1.0f});
  EXPECT_THAT(choice.experts, ElementsAre(2));
  EXPECT_THAT(choice.weights, ElementsAre(ops().sigmoid(-1)));
}

TEST_P(RouteOnAnyBackend, EqualScoresGoToTheLowerIndex) {
  const Choice choice = Route(ops(), {.top_k = 3, .score = Score::kSigmoid}, {1, 2, 2, 1, 2});
  EXPECT_THAT(choice.experts, ElementsAre(1, 2, 4));
  // A bias can make a score of -0: it equals +0.
  const Choice zeros =
      Route(ops(), {.top_k = 2, .score = Score::kSoftmaxOfSelected}, {-1, -0.0f, 0.0f, -0.0f});
  EXPECT_THAT(zeros.experts, ElementsAre(1, 2));
}

TEST_P(RouteOnAnyBackend, GroupsCompeteByTheirTwoBest) {
  // Sums of two: group 0 has 5 + 0, group 1 has 3 + 3, group 2 has 4 + 0.
  const RouterArgs args = {
      .top_k = 2, .group_count = 3, .groups_used = 1, .score = Score::kSoftmaxOfSelected};
  EXPECT_THAT(Route(ops(), args, {5, 0, 3, 3, 4, 0}).experts, ElementsAre(2, 3));
}

TEST_P(RouteOnAnyBackend, GroupsCompeteByTheirBest) {
  const RouterArgs args = {.top_k = 3,
                           .group_count = 3,
                           .groups_used = 2,
                           .group_score = GroupScore::kMax,
                           .score = Score::kSoftmaxOfSelected};
  EXPECT_THAT(Route(ops(), args, {5, 0, 3, 3, 4, 0}).experts, ElementsAre(0, 4, 1));
}

// Masked with 0 instead of -inf, the experts of the losing group would beat the negative ones.
TEST_P(RouteOnAnyBackend, AnUnselectedGroupLosesToNegativeScores) {
  const RouterArgs args = {
      .top_k = 2, .group_count = 2, .groups_used = 1, .score = Score::kSoftmaxOfSelected};
  EXPECT_THAT(Route(ops(), args, {-9, -9, -1, -2}).experts, ElementsAre(2, 3));
}

TEST_P(RouteOnAnyBackend, VanishingWeightsAreDividedByTheLeastSum) {
  const Choice choice =
      Route(ops(), {.top_k = 1, .score = Score::kSigmoid, .normalize = true}, {-20.0f, -21.0f});
  EXPECT_EQ(choice.weights[0], ops().sigmoid(-20.0f) * 0x1p14f);
}

TEST_P(RouteOnAnyBackend, NansStillChooseDistinctExperts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Score score : {Score::kSoftmax, Score::kSigmoid, Score::kSoftmaxOfSelected}) {
    for (const int groups : {1, 4}) {
      const RouterArgs args = {.top_k = 4,
                               .group_count = groups,
                               .groups_used = groups / 2 + 1,
                               .score = score,
                               .normalize = true};
      for (const std::vector<float>& logits :
           {std::vector<float>(16, nan), std::vector<float>(16, -nan),
            std::vector<float>{1, nan, 2, 3, nan, 4, 5, 6, -nan, 1, 2, 3, 4, 5, 6, 7}}) {
        const Choice choice = Route(ops(), args, logits);
        const std::set<int32_t> distinct(choice.experts.begin(), choice.experts.end());
        EXPECT_EQ(distinct.size(), 4u);
        EXPECT_GE(*distinct.begin(), 0);
        EXPECT_LT(*distinct.rbegin(), 16);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RouteOnAnyBackend,
                         testing::ValuesIn(Backends().begin(), Backends().end()),
                         [](const auto& row) { return BackendTestName(row.param); });

struct Family {
  const char* name;
  int expert_count;
  RouterArgs args;
  bool biased = false;
};

const Family kFamilies[] = {
    {"mixtral", 8, {.top_k = 2, .normalize = true}},
    {"qwen3moe", 128, {.top_k = 8, .normalize = true}},
    {"olmoe", 64, {.top_k = 8}},
    {"deepseek2 lite", 64, {.top_k = 6}},
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
    {"odd", 37, {.top_k = 37, .normalize = true}, true},
    {"singles", 5, {.top_k = 3, .group_count = 5, .groups_used = 3}},
    {"one", 1, {.top_k = 1, .normalize = true}},
};

class RouteOnBackend : public RouteOnAnyBackend {};

TEST_P(RouteOnBackend, EveryFamilyGivesReferenceBits) {
  Random random(17);
  std::normal_distribution<float> normal;
  for (const Family& family : kFamilies) {
    for (const float spread : {0.0f, 0.01f, 2.0f, 60.0f}) {
      std::vector<float> logits(static_cast<size_t>(family.expert_count));
      std::vector<float> bias(family.biased ? logits.size() : 0);
      std::generate(logits.begin(), logits.end(), [&] { return normal(random) * spread; });
      std::generate(bias.begin(), bias.end(), [&] { return normal(random) * 0.1f; });
      const Choice actual = Route(ops(), family.args, logits, bias);
      const Choice expected = Route(reference::kOps, family.args, logits, bias);
      EXPECT_EQ(actual.experts, expected.experts) << family.name << " spread " << spread;
      EXPECT_TRUE(SameBits(actual.weights, expected.weights))
          << family.name << " spread " << spread;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, RouteOnBackend, testing::ValuesIn(FastBackends()),
                         [](const auto& row) { return BackendTestName(row.param); });

}  // namespace
}  // namespace stoker
