// What each predictor alone promises.
#include <gtest/gtest.h>

#include <vector>

#include "prefetch/predictors/co_occurrence.h"
#include "prefetch/predictors/lookahead.h"
#include "prefetch/predictors/popularity.h"
#include "prefetch/predictors/previous_token.h"
#include "prefetch/predictors/token.h"

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

// A step of two layers with two experts a row in each.
void Step(TokenPredictor& predictor, const std::vector<PredictedRow>& rows,
          const std::vector<int32_t>& first, const std::vector<int32_t>& second) {
  predictor.OnStep(rows);
  predictor.OnRouting(0, 2, first);
  predictor.OnRouting(1, 2, second);
}

const std::vector<float> kNothing(8, 0.0f);

TEST(TokenPredictor, ATextThatRepeatsIsGuessedRightFromItsFirstLayerOn) {
  TokenPredictor predictor(Shape(2), 64, 1);
  const std::vector<std::vector<int32_t>> first = {{1, 2}, {3, 4}, {5, 6}};
  const std::vector<std::vector<int32_t>> second = {{7, 0}, {6, 1}, {5, 2}};
  for (int32_t position = 0; position < 9; ++position) {
    const auto at = static_cast<size_t>(position % 3);
    const std::vector<PredictedRow> rows = {{0, position, 100 + position % 3}};
    if (position >= 3) {
      predictor.OnStep(rows);
      std::vector<float> expected(8, 0.0f);
      expected[static_cast<size_t>(first[at][0])] = 1;
      expected[static_cast<size_t>(first[at][1])] = 0.5f;
      EXPECT_EQ(Ask(predictor, 0), expected) << position;
      predictor.OnRouting(0, 2, first[at]);
      expected.assign(8, 0.0f);
      expected[static_cast<size_t>(second[at][0])] = 1;
      expected[static_cast<size_t>(second[at][1])] = 0.5f;
      EXPECT_EQ(Ask(predictor, 1), expected) << position;
    }
    Step(predictor, rows, first[at], second[at]);
  }
}

TEST(TokenPredictor, TheNextStepIsGuessedByTheDraftOfItsPlaceAlone) {
  TokenPredictor predictor(Shape(2), 64, 1);
  Step(predictor, {{0, 0, 50}}, {3, 4}, {5, 6});
  Step(predictor, {{0, 1, 51}}, {1, 2}, {5, 6});
  EXPECT_EQ(Ask(predictor, 0), kNothing);  // nobody says what comes
  predictor.OnDraft({0, 3, 50});
  Step(predictor, {{0, 2, 51}}, {1, 2}, {5, 6});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 1, 0.5f, 0, 0, 0}));
  Step(predictor, {{0, 3, 51}}, {1, 2}, {5, 6});
  EXPECT_EQ(Ask(predictor, 0), kNothing);  // the draft was for the step before
  predictor.OnStep({{0, 4, 51}});
  predictor.OnRouting(0, 2, {1, 2});
  predictor.OnDraft({0, 5, 50});  // while the step runs
  predictor.OnRouting(1, 2, {5, 6});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 1, 0.5f, 0, 0, 0}));
}

TEST(TokenPredictor, DraftsOfOtherSequencesDoNotMix) {
  TokenPredictor predictor(Shape(2), 64, 1);
  Step(predictor, {{0, 0, 50}, {1, 0, 60}}, {3, 4, 1, 2}, {5, 6, 5, 6});
  predictor.OnDraft({0, 2, 50});
  predictor.OnDraft({1, 2, 60});
  // Only those of the sequences that take part, each at its own position.
  Step(predictor, {{0, 1, 7}}, {0, 7}, {5, 6});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 1, 0.5f, 0, 0, 0}));
  // Another sequence in the place forgets what was drafted there.
  Step(predictor, {{1, 0, 7}, {1, 1, 7}}, {0, 7, 0, 7}, {5, 6, 5, 6});
  EXPECT_EQ(Ask(predictor, 0), kNothing);
}

TEST(TokenPredictor, ChecksOfDraftsMoveThePlaceOfTheNext) {
  TokenPredictor predictor(Shape(2), 64, 1);
  Step(predictor, {{0, 0, 50}}, {3, 4}, {5, 6});
  predictor.OnDraft({0, 4, 50});  // behind two that are checked
  Step(predictor, {{0, 1, 7}, {0, 2, 8}, {0, 3, 9}}, {0, 7, 0, 7, 0, 7}, {5, 6, 5, 6, 5, 6});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 1, 0.5f, 0, 0, 0}));
}

TEST(TokenPredictor, KeepsTheTokensUsedLastAndNoMoreThanItsTableHolds) {
  constexpr int kKept = TokenPredictor::kSetTokens;  // one set
  TokenPredictor predictor(Shape(2), kKept, 1);
  const auto knows = [&](int32_t token) {
    predictor.OnDraft({0, 1, token});
    Step(predictor, {{0, 0, -1}}, {0, 1}, {0, 1});
    predictor.OnDraft({0, 1, token});
    return Ask(predictor, 0) != kNothing;
  };
  for (int32_t token = 0; token < kKept; ++token) Step(predictor, {{0, 0, token}}, {3, 4}, {5, 6});
  for (int32_t token = 0; token < kKept; ++token) EXPECT_TRUE(knows(token)) << token;
  Step(predictor, {{0, 0, 0}}, {3, 4}, {5, 6});  // used again
  Step(predictor, {{0, 0, kKept}}, {3, 4}, {5, 6});
  EXPECT_TRUE(knows(0));
  EXPECT_FALSE(knows(1));
  EXPECT_TRUE(knows(kKept));
}

TEST(TokenPredictor, APromptWiderThanTheTableLeavesWhatItsLastRowsUsed) {
  constexpr int kKept = TokenPredictor::kSetTokens;
  TokenPredictor predictor(Shape(2), kKept, 1);
  std::vector<PredictedRow> rows;
  std::vector<int32_t> experts;
  for (int32_t row = 0; row < 3 * kKept; ++row) {
    rows.push_back({0, row, row});
    const int32_t expert = row < 2 * kKept ? 1 : 6;
    experts.insert(experts.end(), {expert, 7});
  }
  Step(predictor, rows, experts, experts);
  predictor.OnStep({{0, 3 * kKept, 3 * kKept - 1}});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 0, 0, 0, 1, 0.5f}));
  predictor.OnStep({{0, 3 * kKept, 3 * kKept - kKept}});
  EXPECT_EQ(Ask(predictor, 0), (std::vector<float>{0, 0, 0, 0, 0, 0, 1, 0.5f}));
}

TEST(TokenPredictor, TakesMemoryByTheTokensKept) {
  const double few[] = {64, 1};
  const double many[] = {4096, 1};
  const uint64_t entry_bytes =
      (TokenPredictor::PlanBytes(Shape(), many) - TokenPredictor::PlanBytes(Shape(), few)) /
      (4096 - 64);
  EXPECT_EQ(entry_bytes, 16 + 3 * 2 * sizeof(uint16_t));  // its id and use, and the experts'
}

}  // namespace
}  // namespace stoker
