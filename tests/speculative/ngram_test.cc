// Claims of drafters/ngram.h.
#include "speculative/drafters/ngram.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace stoker {
namespace {

constexpr int kContext = 64;

class NgramDrafterTest : public testing::Test {
 protected:
  std::vector<int32_t> Draft(const std::vector<int32_t>& history, int wanted, int slot = 0) {
    std::vector<int32_t> tokens = history;
    tokens.resize(history.size() + static_cast<size_t>(wanted), -1);
    DraftJob job = {.slot = slot,
                    .tokens = tokens.data(),
                    .known = static_cast<int>(history.size()),
                    .wanted = wanted};
    EXPECT_FALSE(*drafter_.Draft({&job, 1}));
    tokens.resize(history.size() + static_cast<size_t>(job.drafted));
    return {tokens.begin() + static_cast<ptrdiff_t>(history.size()), tokens.end()};
  }

  NgramDrafter drafter_{{.sequence_count = 2, .context = kContext, .length_max = 8},
                        /*longest=*/3,
                        /*shortest=*/2};
};

using Tokens = std::vector<int32_t>;

TEST_F(NgramDrafterTest, WhatFollowedTheLastTokensBeforeIsDrafted) {
  EXPECT_EQ(Draft({1, 2, 3, 4, 5, 9, 1, 2}, 3), (Tokens{3, 4, 5}));
}

TEST_F(NgramDrafterTest, NothingIsDraftedWhereNothingRecurs) {
  EXPECT_EQ(Draft({1, 2, 3, 4, 5, 6}, 3), Tokens());
  EXPECT_EQ(Draft({1}, 3, 1), Tokens());
}

TEST_F(NgramDrafterTest, OneTokenAloneIsNoMatch) { EXPECT_EQ(Draft({7, 1, 2, 7}, 2), Tokens()); }

TEST_F(NgramDrafterTest, TheLongerMatchWins) {
  EXPECT_EQ(Draft({1, 2, 3, 8, 0, 2, 3, 9, 0, 1, 2, 3}, 1), Tokens{8});
}

TEST_F(NgramDrafterTest, TheLatestOccurrenceWins) {
  EXPECT_EQ(Draft({1, 2, 8, 0, 1, 2, 9, 5, 1, 2}, 1), Tokens{9});
}

TEST_F(NgramDrafterTest, ALoopIsContinuedAsFarAsIsWanted) {
  EXPECT_EQ(Draft({1, 2, 3, 1, 2, 3, 1, 2}, 7), (Tokens{3, 1, 2, 3, 1, 2, 3}));
}

TEST_F(NgramDrafterTest, AnotherSequenceInTheSlotLeavesNothingBehind) {
  EXPECT_EQ(Draft({1, 2, 3, 4, 1, 2}, 1), Tokens{3});
  EXPECT_EQ(Draft({5, 6, 9, 9, 1, 2}, 1), Tokens());
  EXPECT_EQ(Draft({5, 6, 9, 9, 1, 2, 5, 6}, 1), Tokens{9});
}

TEST_F(NgramDrafterTest, SlotsDoNotShareTexts) {
  EXPECT_EQ(Draft({1, 2, 3, 4, 1, 2}, 1, 0), Tokens{3});
  EXPECT_EQ(Draft({1, 2}, 1, 1), Tokens());
}

TEST_F(NgramDrafterTest, ATextThatGrowsGivesWhatTheSameTextGivesAtOnce) {
  std::mt19937 random(1);
  Tokens text = {0, 1};
  while (text.size() < kContext - 4) {
    text.push_back(static_cast<int32_t>(random() % 3));
    NgramDrafter fresh({.sequence_count = 1, .context = kContext, .length_max = 8}, 3, 2);
    Tokens tokens = text;
    tokens.resize(text.size() + 4, -1);
    DraftJob job = {.tokens = tokens.data(), .known = static_cast<int>(text.size()), .wanted = 4};
    EXPECT_FALSE(*fresh.Draft({&job, 1}));
    const Tokens once(tokens.begin() + static_cast<ptrdiff_t>(text.size()),
                      tokens.begin() + static_cast<ptrdiff_t>(text.size()) + job.drafted);
    EXPECT_EQ(Draft(text, 4), once) << text.size();
  }
}

}  // namespace
}  // namespace stoker
