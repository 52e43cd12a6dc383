// Claims of step_cost.h.
#include "speculative/step_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/model.h"

namespace stoker {
namespace {

StepCost MakeCost() { return StepCost(/*rows_max=*/16, /*missing_max=*/1000); }

TEST(StepCost, KnowsNothingBeforeTheFirstStep) {
  const StepCost cost = MakeCost();
  EXPECT_FALSE(cost.IsKnown(1));
  EXPECT_EQ(cost.Ns(4), 0);
}

TEST(StepCost, ASizeThatWasSeenCostsWhatItCost) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 20; ++i) {
    cost.Observe({.rows = 2, .compute_ns = 100, .wait_ns = 60, .missing = 3});
  }
  EXPECT_DOUBLE_EQ(cost.ComputeNs(2), 100);
  EXPECT_DOUBLE_EQ(cost.Missing(2), 3);
  EXPECT_DOUBLE_EQ(cost.Ns(2), 160);
}

TEST(StepCost, AFirstStepThatFoundCachesColdDoesNotCount) {
  StepCost cost = MakeCost();
  cost.Observe({.rows = 2, .compute_ns = 900});
  cost.Observe({.rows = 2, .compute_ns = 100});
  cost.Observe({.rows = 2, .compute_ns = 110});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(2), 100);
}

TEST(StepCost, ASingleStepThatWasDearIsNotBelievedAgainstTheOthers) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 8; ++i) cost.Observe({.rows = 1, .compute_ns = 100});
  cost.Observe({.rows = 2, .compute_ns = 900});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(2), 100 * (1 + StepCost::kRowShare));
  for (int i = 0; i < 2; ++i) cost.Observe({.rows = 2, .compute_ns = 800});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(2), 800);
}

TEST(StepCost, BetweenTwoSizesTheCostLiesOnALine) {
  StepCost cost = MakeCost();
  cost.Observe({.rows = 1, .compute_ns = 100});
  cost.Observe({.rows = 5, .compute_ns = 180});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(3), 140);
}

TEST(StepCost, BeyondTheSizesSeenTheLastSlopeGoesOn) {
  StepCost cost = MakeCost();
  cost.Observe({.rows = 2, .compute_ns = 100});
  cost.Observe({.rows = 4, .compute_ns = 130});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(8), 190);
  EXPECT_DOUBLE_EQ(cost.ComputeNs(1), 85);
}

TEST(StepCost, MoreRowsAreNeverExpectedToBeQuicker) {
  StepCost cost = MakeCost();
  cost.Observe({.rows = 2, .compute_ns = 130});
  cost.Observe({.rows = 4, .compute_ns = 100});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(8), 100);
}

TEST(StepCost, MissingExpertsGrowAsTheUnionDoes) {
  StepCost cost = MakeCost();
  cost.Observe({.rows = 1, .compute_ns = 100, .wait_ns = 200, .missing = 10});
  EXPECT_NEAR(cost.Missing(8), 10 * std::pow(8.0, StepCost::kUnionExponent), 1e-9);
  EXPECT_NEAR(cost.Ns(8) - cost.ComputeNs(8), 20 * cost.Missing(8), 1e-9);
}

// A text that goes round in four rows' experts, two of which fit.
TEST(StepCost, WithAShadowMissingExpertsGrowAsTheyWouldForTheText) {
  ExpertCatalog catalog;
  catalog.layers.push_back({.layer = 0, .expert_count = 4, .part_count = 1});
  ShadowCache shadow(catalog, {.slot_count = 2, .rows_max = 8, .top_k = 1});
  StepCost cost(/*rows_max=*/8, /*missing_max=*/1000, &shadow);
  for (int32_t i = 0; i < 1000; ++i) {
    const std::vector<int32_t> experts = {i % 4};
    shadow.OnStep(std::vector<StepRow>(1));
    shadow.OnRouting(0, 1, experts, {});
    shadow.Use(0, 1);
    cost.Observe({.rows = 1, .compute_ns = 100, .wait_ns = 200, .missing = 10});
  }
  EXPECT_NEAR(cost.Missing(1), 10, 0.01);
  EXPECT_NEAR(cost.Missing(2), 20, 0.01);
  EXPECT_NEAR(cost.Missing(8), 20, 0.01);
  // In truth wider steps miss half as many.
  for (int i = 0; i < 200; ++i) {
    cost.Observe({.rows = 2, .compute_ns = 100, .missing = 10});
  }
  // All that is known of eight rows is known of two: 16 steps at a half, and the prior of 2 at 1.
  EXPECT_NEAR(cost.Missing(8), 20 * (16 * 0.5 + 2) / 18, 0.1);
}

TEST(StepCost, ReadsThatOverlapMakeWaitingALineThatDoesNotBeginAtZero) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 200; ++i) {
    const double missing = 5 + i % 11;
    cost.Observe({.rows = 1, .wait_ns = 1000 + 10 * missing, .missing = missing});
  }
  EXPECT_NEAR(cost.WaitNs(10), 1100, 20);
  EXPECT_LT(cost.WaitNs(40), 0.5 * 4 * 1100);  // which are not believed at once to cost less
  for (int i = 0; i < 100; ++i) {
    const double missing = i % 2 == 0 ? 10 : 100;
    cost.Observe({.rows = 1 + i % 2, .wait_ns = 1000 + 10 * missing, .missing = missing});
  }
  EXPECT_NEAR(cost.WaitNs(40), 1400, 140);
  EXPECT_EQ(cost.WaitNs(0), 0);
}

TEST(StepCost, WhereStepsMissAlikeWaitingIsAMultipleOfWhatIsMissing) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 200; ++i) cost.Observe({.rows = 1, .wait_ns = 1000, .missing = 10});
  EXPECT_NEAR(cost.WaitNs(10), 1000, 1e-6);
  EXPECT_NEAR(cost.WaitNs(40), 4000, 1e-6);
}

TEST(StepCost, WaitsThatSeemToShrinkWithWhatIsMissingAreFlat) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 200; ++i) {
    const double missing = 5 + i % 11;
    cost.Observe({.rows = 1, .wait_ns = 2000 - 50 * missing, .missing = missing});
  }
  EXPECT_GE(cost.WaitNs(40), cost.WaitNs(10));
}

TEST(StepCost, NoMoreExpertsAreMissingThanARowCanAskFor) {
  StepCost cost(/*rows_max=*/16, /*missing_max=*/2);
  cost.Observe({.rows = 8, .missing = 100});
  EXPECT_LE(cost.Missing(16), 32);
}

TEST(StepCost, KnowsSizesThatDifferByAQuarterFromOneThatWasSeen) {
  StepCost cost(/*rows_max=*/64, /*missing_max=*/100);
  cost.Observe({.rows = 32, .compute_ns = 900});
  EXPECT_TRUE(cost.IsKnown(30));
  EXPECT_TRUE(cost.IsKnown(40));
  EXPECT_FALSE(cost.IsKnown(24));
  EXPECT_FALSE(cost.IsKnown(64));
}

TEST(StepCost, ASizeIsSureOnceSizesAboutItWereSeenAFewTimes) {
  StepCost cost(/*rows_max=*/64, /*missing_max=*/100);
  cost.Observe({.rows = 40, .compute_ns = 900});
  cost.Observe({.rows = 43, .compute_ns = 900});
  EXPECT_EQ(cost.SureRows(), 0);
  cost.Observe({.rows = 41, .compute_ns = 900});
  EXPECT_NEAR(cost.SureRows(), 42, 2);
}

// A batch with drafts has another number of rows each time.
TEST(StepCost, StepsOfNearlyTheSameSizeAreBelievedTogether) {
  StepCost cost(/*rows_max=*/144, /*missing_max=*/100);
  for (int i = 0; i < 8; ++i) cost.Observe({.rows = 16, .compute_ns = 1600});
  for (const int rows : {80, 85, 82, 87, 83, 86}) {
    cost.Observe({.rows = rows, .compute_ns = 100.0 * rows});
  }
  for (const int rows : {80, 84, 88}) EXPECT_NEAR(cost.ComputeNs(rows), 100 * rows, 400) << rows;
}

TEST(StepCost, ASizeThatIsDoubtedIsNotSureAndTheNextStepCountsForIt) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 16; ++i) cost.Observe({.rows = 4, .compute_ns = 900, .missing = 12});
  for (int i = 0; i < 40; ++i) cost.Observe({.rows = 1, .compute_ns = 100, .missing = 2});
  EXPECT_EQ(cost.SureRows(), 4);
  cost.Doubt();
  EXPECT_EQ(cost.SureRows(), 1);
  cost.Observe({.rows = 4, .compute_ns = 900, .missing = 6});
  EXPECT_DOUBLE_EQ(cost.Missing(4), 6);
}

TEST(StepCost, WhatWasNotSeenForLongIsForgotten) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 16; ++i) cost.Observe({.rows = 4, .compute_ns = 900});
  EXPECT_DOUBLE_EQ(cost.ComputeNs(4), 900);
  EXPECT_TRUE(cost.IsKnown(4));
  for (int i = 0; i < 1000; ++i) cost.Observe({.rows = 1, .compute_ns = 100});
  EXPECT_FALSE(cost.IsKnown(4));
  EXPECT_TRUE(cost.IsKnown(1));
  // Again what one row's cost suggests, so that four rows are worth another try.
  EXPECT_DOUBLE_EQ(cost.ComputeNs(4), 100 + 3 * 100 * StepCost::kRowShare);
}

TEST(StepCost, FollowsACacheThatFills) {
  StepCost cost = MakeCost();
  for (int i = 0; i < 100; ++i) cost.Observe({.rows = 1, .wait_ns = 1000, .missing = 10});
  for (int i = 0; i < 100; ++i) cost.Observe({.rows = 1, .wait_ns = 100, .missing = 1});
  EXPECT_NEAR(cost.Missing(1), 1, 0.05);
  EXPECT_NEAR(cost.wait_per_missing_ns(), 100, 1);
}

TEST(StepCost, WhatWasNotSeenForLongMovesWithWhatIs) {
  StepCost cost(4, 1e6);
  for (int i = 0; i < 20; ++i) cost.Observe({.rows = 1, .compute_ns = 1000});
  for (int i = 0; i < 60; ++i) cost.Observe({.rows = 2, .compute_ns = 1500});
  EXPECT_NEAR(cost.ComputeNs(1), 1000, 1);
  for (int i = 0; i < 100; ++i) cost.Observe({.rows = 2, .compute_ns = 3000});
  EXPECT_NEAR(cost.ComputeNs(1), 2000, 20);
}

TEST(StepCost, ASizeSeenAgainAfterLongIsSoonWhatItIsNow) {
  StepCost cost(4, 1e6);
  for (int i = 0; i < 40; ++i) cost.Observe({.rows = 1, .compute_ns = 1000, .missing = 20});
  for (int i = 0; i < 64; ++i) cost.Observe({.rows = 2, .compute_ns = 1500, .missing = 30});
  for (int i = 0; i < 4; ++i) cost.Observe({.rows = 1, .compute_ns = 3000, .missing = 0});
  EXPECT_GT(cost.ComputeNs(1), 2000);
  EXPECT_LT(cost.Missing(1), 10);
}

TEST(StepCost, ExpertsMissingAgainAfterNoneWereDoNotMakeOtherSizesDear) {
  StepCost cost(4, 30);
  for (int i = 0; i < 20; ++i) cost.Observe({.rows = 2, .compute_ns = 1500, .missing = 40});
  for (int i = 0; i < 200; ++i) cost.Observe({.rows = 1, .compute_ns = 1000, .missing = 1e-6});
  for (int i = 0; i < 20; ++i) cost.Observe({.rows = 1, .compute_ns = 1000, .missing = 20});
  EXPECT_LE(cost.Missing(2), 60);
}

TEST(StepCost, SizesThatTakeTurnsDoNotMoveEachOther) {
  StepCost cost(4, 1e6);
  for (int i = 0; i < 20; ++i) cost.Observe({.rows = 1 + i % 2, .compute_ns = 1000});
  for (int i = 0; i < 400; ++i) {
    cost.Observe({.rows = 1, .compute_ns = 1000});
    cost.Observe({.rows = 2, .compute_ns = 1500});
  }
  EXPECT_NEAR(cost.ComputeNs(1), 1000, 10);
  EXPECT_NEAR(cost.ComputeNs(2), 1500, 15);
}

}  // namespace
}  // namespace stoker
