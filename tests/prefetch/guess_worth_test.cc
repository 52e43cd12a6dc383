// When guesses stop, and when they are tried again.
#include "prefetch/guess_worth.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

constexpr GuessWorth::Options kOptions = {.window = 8, .pause = 10};
constexpr double kWaitNsPerByte = 0.5;

// One read of 100 bytes, and what came of it. kDisplaced: in vain, and who went for it was missed.
enum class End { kUsed, kLate, kWasted, kDisplaced };
void Read(HintCounts& counts, End end) {
  ++counts.issued;
  counts.issued_bytes += 100;
  if (end == End::kUsed) counts.used_bytes += 100;
  if (end == End::kLate) counts.late_bytes += 100;
  if (end == End::kDisplaced) counts.displaced_bytes += 100;
  counts.saved_bytes = counts.used_bytes + counts.late_bytes / 10;
}

// Steps until it falls silent, `limit` if it does not.
int StepsUntilSilent(GuessWorth& worth, HintCounts& counts, End end, int limit = 1000) {
  for (int step = 0; step < limit; ++step) {
    Read(counts, end);
    worth.Asked(counts, true, kWaitNsPerByte);
    if (worth.is_silent()) return step + 1;
  }
  return limit;
}

int StepsOfSilence(GuessWorth& worth, const HintCounts& counts) {
  int steps = 0;
  for (; worth.is_silent(); ++steps) worth.Asked(counts, false, kWaitNsPerByte);
  return steps;
}

TEST(GuessWorth, GuessesThatArriveInTimeGoOn) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kUsed), 1000);
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kLate), 1000);
}

TEST(GuessWorth, GuessesInVainStopAfterAWindow) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kWasted), 8);
  EXPECT_EQ(StepsOfSilence(worth, counts), 10);
}

TEST(GuessWorth, EachPauseInARowIsTwiceAsLongUpToABound) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  for (const int pause : {10, 20, 40, 80, 160, 320, 320}) {
    EXPECT_EQ(StepsUntilSilent(worth, counts, End::kWasted), pause == 10 ? 8 : 4);
    EXPECT_EQ(StepsOfSilence(worth, counts), pause);
  }
  for (int i = 0; i < 4; ++i) {  // one window that pays
    Read(counts, End::kUsed);
    worth.Asked(counts, true, kWaitNsPerByte);
  }
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kDisplaced), 8);
  EXPECT_EQ(StepsOfSilence(worth, counts), 10);
}

TEST(GuessWorth, AReadInVainThatNobodyWentForCostsAlmostNothing) {
  for (const int share : {8, 40}) {
    GuessWorth worth(kOptions);
    HintCounts counts;
    for (int i = 0; i < 800 && !worth.is_silent(); ++i) {
      Read(counts, i % share == 0 ? End::kUsed : End::kWasted);
      worth.Asked(counts, true, kWaitNsPerByte);
    }
    EXPECT_EQ(worth.is_silent(), share > 32) << share;
  }
}

TEST(GuessWorth, WhoeverWentForAGuessInVainAndIsMissedCounts) {
  for (int used = 0; used <= 8; ++used) {
    GuessWorth worth(kOptions);
    HintCounts counts;
    for (int i = 0; i < 8; ++i) {
      Read(counts, i < used ? End::kUsed : End::kDisplaced);
      worth.Asked(counts, true, kWaitNsPerByte);
    }
    // Each costs its bytes, and a little for itself.
    EXPECT_EQ(worth.is_silent(), used <= 4) << used;
  }
}

// Windows that each save 800 bytes come to 3,200; bad ones then to 1,575, 356 and below 0.
TEST(GuessWorth, ABadWindowAfterManyGoodOnesIsForgiven) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kUsed), 1000);
  EXPECT_EQ(StepsUntilSilent(worth, counts, End::kDisplaced), 8 * 3);
}

TEST(GuessWorth, DelayOfDemandCounts) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  for (int i = 0; i < 8; ++i) {  // every one is used, but each stood as long in the way of others
    Read(counts, End::kUsed);
    counts.delay_bytes += 100;
    worth.Asked(counts, true, kWaitNsPerByte);
  }
  EXPECT_TRUE(worth.is_silent());
}

TEST(GuessWorth, GuessesThatFindNothingToReadStop) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  Read(counts, End::kUsed);
  worth.Asked(counts, true, kWaitNsPerByte);
  int steps = 0;
  for (; !worth.is_silent() && steps < 1000; ++steps) worth.Asked(counts, true, kWaitNsPerByte);
  EXPECT_EQ(steps, GuessWorth::kIdleGuesses);
}

// 100 bytes are saved at a time, worth 50 ns of waiting.
TEST(GuessWorth, GuessesThatTakeLongerThanTheySaveStop) {
  for (const int64_t spent_ns : {49, 51}) {
    GuessWorth worth(kOptions);
    HintCounts counts;
    for (int i = 0; i < 8; ++i) {
      worth.Spent(spent_ns);
      Read(counts, End::kUsed);
      worth.Asked(counts, true, kWaitNsPerByte);
    }
    EXPECT_EQ(worth.is_silent(), spent_ns > 50) << spent_ns;
  }
}

TEST(GuessWorth, WhereNobodyWaitsNothingIsWorthTheTime) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  for (int i = 0; i < 8; ++i) {
    worth.Spent(1);
    Read(counts, End::kUsed);
    worth.Asked(counts, true, 0);
  }
  EXPECT_TRUE(worth.is_silent());
}

TEST(GuessWorth, GuessesThatTakeTimeAndSeldomReadAreJudgedByTheirNumber) {
  for (const bool takes_time : {false, true}) {
    GuessWorth worth(kOptions);
    HintCounts counts;
    int steps = 0;
    for (; !worth.is_silent() && steps < 64; ++steps) {
      if (takes_time) worth.Spent(1000);
      if (steps % 8 == 0) Read(counts, End::kUsed);
      worth.Asked(counts, true, kWaitNsPerByte);
    }
    EXPECT_EQ(steps, takes_time ? GuessWorth::kWindowGuesses : 64);
  }
}

TEST(GuessWorth, StepsWithoutAGuessDecideNothing) {
  GuessWorth worth(kOptions);
  HintCounts counts;
  for (int step = 0; step < 1000; ++step) worth.Asked(counts, false, kWaitNsPerByte);
  EXPECT_FALSE(worth.is_silent());
}

}  // namespace
}  // namespace stoker
