// Claims of draft_cost.h.
#include "speculative/draft_cost.h"

#include <gtest/gtest.h>

#include <vector>

namespace stoker {
namespace {

void Observe(DraftCost& cost, std::vector<DraftCost::Round> rounds, bool has_joined = false) {
  cost.ObserveStep(rounds, has_joined);
}

TEST(DraftCost, IsKnownAfterAFewStepsWithDrafts) {
  DraftCost cost(4);
  EXPECT_EQ(cost.RoundNs(0, 4), 0);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(cost.IsKnown());
    Observe(cost, {{.sequences = 4, .ns = 100}});
    Observe(cost, {});
  }
  EXPECT_TRUE(cost.IsKnown());
}

TEST(DraftCost, TheFirstRoundOfAStepHasACostOfItsOwn) {
  DraftCost cost(4);
  for (int i = 0; i < 10; ++i) {
    Observe(cost, {{.sequences = 4, .ns = 300}, {.sequences = 4, .ns = 100}});
  }
  EXPECT_DOUBLE_EQ(cost.RoundNs(0, 4), 300);
  EXPECT_DOUBLE_EQ(cost.RoundNs(1, 4), 100);
  EXPECT_DOUBLE_EQ(cost.RoundNs(5, 4), 100);
}

TEST(DraftCost, FewerSequencesTakeLess) {
  DraftCost cost(16);
  for (int i = 0; i < 10; ++i) {
    Observe(cost, {{.sequences = 16, .ns = 1600}});
    Observe(cost, {{.sequences = 2, .ns = 200}});
  }
  EXPECT_NEAR(cost.RoundNs(0, 9), 900, 1);
  EXPECT_EQ(cost.RoundNs(0, 0), 0);
}

// Were it taken to cost as much less as a line through other numbers says, it would seem free.
TEST(DraftCost, FewerSequencesThanWereSeenAreNotTakenToCostNothing) {
  DraftCost cost(16);
  for (int i = 0; i < 10; ++i) {
    Observe(cost, {{.sequences = 13, .ns = 1000}});
    Observe(cost, {{.sequences = 16, .ns = 1600}});
  }
  EXPECT_GT(cost.RoundNs(0, 2), 100);
  for (int i = 0; i < 3; ++i) Observe(cost, {{.sequences = 2, .ns = 600}});
  EXPECT_NEAR(cost.RoundNs(0, 2), 600, 1);
}

TEST(DraftCost, CatchingUpAfterAPauseDoesNotCount) {
  DraftCost cost(1);
  for (int i = 0; i < 10; ++i) Observe(cost, {{.sequences = 1, .ns = 100}});
  Observe(cost, {});
  Observe(cost, {{.sequences = 1, .ns = 900}});
  EXPECT_DOUBLE_EQ(cost.RoundNs(0, 1), 100);
}

TEST(DraftCost, ReadingThePromptOfASequenceThatJoinsDoesNotCount) {
  DraftCost cost(4);
  for (int i = 0; i < 20; ++i) Observe(cost, {{.sequences = 4, .ns = 100}});
  Observe(cost, {{.sequences = 4, .ns = 5000}}, /*has_joined=*/true);
  EXPECT_DOUBLE_EQ(cost.RoundNs(0, 4), 100);
}

}  // namespace
}  // namespace stoker
