// What each predictor alone promises.
#include <gtest/gtest.h>

#include <vector>

#include "prefetch/predictors/co_occurrence.h"
#include "prefetch/predictors/lookahead.h"
#include "prefetch/predictors/popularity.h"
#include "prefetch/predictors/previous_token.h"

namespace stoker {
namespace {

PredictorShape Shape(int layer_count = 3) {
  return {.expert_counts = std::vector<int32_t>(static_cast<size_t>(layer_count), 8),
          .top_k = 2,
          .sequence_count = 2,
          .rows_max = 4};
}

std::vector<float> Ask(Predictor& predictor, int target) {
  std::vector<float> confidences(8, 0.0f);
  predictor.Propose(target, absl::MakeSpan(confidences));
  return confidences;
}

TEST(LookaheadPredictor, RanksByRankAndAddsRows) {
  LookaheadPredictor predictor(Shape(), 2, 2);
  EXPECT_EQ(predictor.lookahead_layers(), 2);
  // Two rows of four guesses each; two of each count.
  predictor.OnLookahead(1, 4, {5, 6, 0, 1, 6, 3, 0, 1});
  EXPECT_EQ(Ask(predictor, 1), (std::vector<float>{0, 0, 0, 0.5f, 0, 1, 1.5f, 0}));
  EXPECT_EQ(Ask(predictor, 1), std::vector<float>(8, 0.0f));  // a guess serves once
  predictor.OnLookahead(2, 4, {5, 6, 0, 1});
  EXPECT_EQ(Ask(predictor, 1), std::vector<float>(8, 0.0f));  // and its own layer
}

TEST(PreviousTokenPredictor, RemembersEachSequenceOfTheStep) {
  PreviousTokenPredictor predictor(Shape(), 1);
  predictor.OnStep({{0, 4}, {1, 9}});
  predictor.OnRouting(1, 2, {1, 2, 3, 4});
  predictor.OnStep({{1, 10}});
  EXPECT_EQ(Ask(predictor, 1), (std::vector<float>{0, 0, 0, 1, 0.5f, 0, 0, 0}));
  predictor.OnStep({{1, 11}, {0, 5}});
  EXPECT_EQ(Ask(predictor, 1), (std::vector<float>{0, 1, 0.5f, 1, 0.5f, 0, 0, 0}));
}

TEST(PreviousTokenPredictor, APromptLeavesItsLastToken) {
  PreviousTokenPredictor predictor(Shape(), 1);
  predictor.OnStep({{0, 0}, {0, 1}, {0, 2}});
  predictor.OnRouting(0, 2, {1, 2, 3, 4, 5, 6});
  predictor.OnStep({{0, 3}});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 0, 0, 1, 0.5f, 0}));
}

TEST(PreviousTokenPredictor, ANewSequenceKnowsNothingOfTheOldOne) {
  PreviousTokenPredictor predictor(Shape(), 1);
  predictor.OnStep({{0, 7}});
  predictor.OnRouting(0, 2, {1, 2});
  predictor.OnStep({{0, 0}});
  EXPECT_EQ(Ask(predictor, 0), std::vector<float>(8, 0.0f));
}

TEST(PopularityPredictor, RanksByUseAndForgets) {
  PopularityPredictor predictor(Shape(), 1, 16);
  const auto use = [&](std::vector<int32_t> experts, int times) {
    for (int i = 0; i < times; ++i) {
      predictor.OnStep({{0, i}});
      predictor.OnRouting(1, 2, experts);
    }
  };
  use({1, 2}, 3);
  use({1, 4}, 1);
  std::vector<float> confidences = Ask(predictor, 1);
  EXPECT_FLOAT_EQ(confidences[1], 1.0f);  // of two a token, each token uses it
  EXPECT_FLOAT_EQ(confidences[2], 0.75f);
  EXPECT_FLOAT_EQ(confidences[4], 0.25f);
  EXPECT_EQ(confidences[0], 0);
  use({6, 7}, 64);  // counts of 4 fade to 0 by halving thrice
  confidences = Ask(predictor, 1);
  EXPECT_EQ(confidences[1], 0);
  EXPECT_FLOAT_EQ(confidences[6], 1.0f);
}

TEST(CoOccurrencePredictor, NamesWhatFollowed) {
  CoOccurrencePredictor predictor(Shape(), 128);
  const auto token = [&](std::vector<int32_t> first, std::vector<int32_t> second) {
    predictor.OnStep({{0, 0}});
    predictor.OnRouting(0, 2, first);
    predictor.OnRouting(1, 2, second);
  };
  token({0, 1}, {4, 5});
  token({0, 2}, {4, 6});
  predictor.OnStep({{0, 0}});
  predictor.OnRouting(0, 2, {0, 7});
  // 0 was followed by 4 twice and by 5 and 6 once, of two uses; 7 is new.
  EXPECT_EQ(Ask(predictor, 1), (std::vector<float>{0, 0, 0, 0, 0.5f, 0.25f, 0.25f, 0}));
  EXPECT_EQ(Ask(predictor, 2), std::vector<float>(8, 0.0f));
}

TEST(CoOccurrencePredictor, ForgetsWhatNoLongerFollows) {
  CoOccurrencePredictor predictor(Shape(), 8);
  const auto use = [&](int32_t follower, int times) {
    for (int i = 0; i < times; ++i) {
      predictor.OnStep({{0, 0}});
      predictor.OnRouting(0, 2, {0, 1});
      predictor.OnRouting(1, 2, {follower, 3});
    }
  };
  use(4, 16);
  use(5, 64);
  predictor.OnStep({{0, 0}});
  predictor.OnRouting(0, 2, {0, 1});
  EXPECT_EQ(Ask(predictor, 1)[4], 0);
  EXPECT_GT(Ask(predictor, 1)[5], 0.8f);  // a halving rounds down
}

TEST(CoOccurrencePredictor, ALongPromptTeachesByItsLastRows) {
  CoOccurrencePredictor predictor(Shape(), 1000);
  constexpr int kRows = CoOccurrencePredictor::kRowsMax + 10;
  std::vector<int32_t> first, second;
  for (int row = 0; row < kRows; ++row) {
    first.insert(first.end(), {0, 1});
    second.insert(second.end(), {row < 10 ? 4 : 5, 6});
  }
  predictor.OnStep(std::vector<PredictedRow>(kRows));
  predictor.OnRouting(0, 2, first);
  predictor.OnRouting(1, 2, second);
  predictor.OnStep({{0, kRows}});
  predictor.OnRouting(0, 2, {0, 1});
  EXPECT_EQ(Ask(predictor, 1)[4], 0);
  EXPECT_FLOAT_EQ(Ask(predictor, 1)[5], 1.0f);
}

}  // namespace
}  // namespace stoker
