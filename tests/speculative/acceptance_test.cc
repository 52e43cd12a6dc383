// Claims of acceptance.h.
#include "speculative/acceptance.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TEST(Acceptance, BeforeAnythingWasCheckedThePriorIsBelievedAtEveryPlace) {
  const Acceptance acceptance;
  for (int place = 0; place < kDraftLengthMax; ++place) EXPECT_EQ(acceptance.At(place, 0.5), 0.5);
}

TEST(Acceptance, EachPlaceHasARateOfItsOwn) {
  Acceptance acceptance(64);
  // The first is always right, the second never, so the third is not checked.
  for (int i = 0; i < 200; ++i) acceptance.Observe(/*drafted=*/4, /*accepted=*/1);
  EXPECT_GT(acceptance.At(0, 0.5), 0.97);
  EXPECT_LT(acceptance.At(1, 0.5), 0.04);
  EXPECT_EQ(acceptance.checked(2), 0);
}

TEST(Acceptance, APlaceNeverCheckedIsAsTheOneBefore) {
  Acceptance acceptance;
  for (int i = 0; i < 50; ++i) acceptance.Observe(/*drafted=*/1, /*accepted=*/1);
  EXPECT_EQ(acceptance.At(5, 0.5), acceptance.At(0, 0.5));
}

TEST(Acceptance, TheRateFollowsAChangeOfText) {
  Acceptance acceptance;
  for (int i = 0; i < 500; ++i) acceptance.Observe(1, 1);
  for (int i = 0; i < 200; ++i) acceptance.Observe(1, 0);
  EXPECT_LT(acceptance.At(0, 0.5), 0.1);
}

// Its drafts are right now, but no second one is checked.
TEST(Acceptance, WhatAPlaceFurtherOnWasLongAgoIsForgotten) {
  Acceptance acceptance;
  for (int i = 0; i < 100; ++i) acceptance.Observe(/*drafted=*/2, /*accepted=*/1);
  ASSERT_LT(acceptance.At(1, 0.5), 0.1);
  for (int i = 0; i < 200; ++i) acceptance.Observe(/*drafted=*/1, /*accepted=*/1);
  EXPECT_GT(acceptance.At(1, 0.5), 0.9);
}

TEST(Acceptance, ASequenceLeansOnTheOthersAsLongAsItHasSeenLittle) {
  Acceptance all, mine;
  for (int i = 0; i < 200; ++i) all.Observe(1, 1);
  EXPECT_EQ(mine.At(0, all, 0.5), all.At(0, 0.5));
  for (int i = 0; i < 50; ++i) mine.Observe(1, 0);
  EXPECT_LT(mine.At(0, all, 0.5), 0.1);
}

TEST(Acceptance, WhatWasForgottenIsNotKnown) {
  Acceptance acceptance;
  for (int i = 0; i < 50; ++i) acceptance.Observe(2, 2);
  acceptance.Forget();
  EXPECT_EQ(acceptance.At(0, 0.25), 0.25);
}

}  // namespace
}  // namespace stoker
