// Claims of statistics.h.
#include "runtime/statistics.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

StepRecord Decode(int64_t wall_ns, int rows = 1) {
  StepRecord step;
  step.wall_ns = wall_ns;
  step.decode_rows = rows;
  step.tokens = rows;
  step.causes[static_cast<size_t>(Cause::kHead)] = wall_ns;
  step.hits = 3;
  step.misses = 1;
  step.read_bytes = 100;
  return step;
}

StepRecord Prompt(int64_t wall_ns, int rows, int tokens) {
  StepRecord step;
  step.wall_ns = wall_ns;
  step.prompt_rows = rows;
  step.tokens = tokens;
  return step;
}

TEST(RunStatistics, NothingAddedGivesZeros) {
  const RunSummary summary = RunStatistics().Summarize();
  EXPECT_EQ(summary.gaps.count, 0);
  EXPECT_EQ(summary.gaps.p99_ns, 0);
  EXPECT_EQ(summary.decode.tokens_per_second(), 0);
  EXPECT_EQ(summary.decode.hit_rate(), 0);
  EXPECT_EQ(summary.slowest.wall_ns, 0);
}

TEST(RunStatistics, PercentilesAreStoredValuesByNearestRank) {
  RunStatistics statistics;
  for (int64_t ns = 200; ns >= 1; --ns) statistics.Add(Decode(ns));
  const GapSummary gaps = statistics.Summarize().gaps;
  EXPECT_EQ(gaps.count, 200);
  EXPECT_EQ(gaps.p50_ns, 100);
  EXPECT_EQ(gaps.p90_ns, 180);
  EXPECT_EQ(gaps.p99_ns, 198);
  EXPECT_EQ(gaps.max_ns, 200);
}

TEST(RunStatistics, OneGapIsEveryPercentile) {
  RunStatistics statistics;
  statistics.Add(Decode(42));
  const GapSummary gaps = statistics.Summarize().gaps;
  EXPECT_EQ(gaps.p50_ns, 42);
  EXPECT_EQ(gaps.p99_ns, 42);
  EXPECT_EQ(gaps.max_ns, 42);
}

TEST(RunStatistics, RatesCountPromptAndDecodeStepsApart) {
  RunStatistics statistics;
  statistics.Add(Prompt(1'000'000, 8, 0));
  statistics.Add(Prompt(1'000'000, 2, 1));
  for (int i = 0; i < 4; ++i) statistics.Add(Decode(500'000));
  const RunSummary summary = statistics.Summarize();
  EXPECT_DOUBLE_EQ(summary.prompt.tokens_per_second(), 10 / 2e-3);
  EXPECT_DOUBLE_EQ(summary.decode.tokens_per_second(), 2000);
  EXPECT_EQ(summary.first_token_ns, 2'000'000);
  EXPECT_EQ(summary.prompt_rows, 10);
  EXPECT_EQ(summary.generated, 5);
  EXPECT_EQ(summary.gaps.count, 4);  // the first token ends no gap
  EXPECT_DOUBLE_EQ(summary.decode.hit_rate(), 0.75);
  EXPECT_EQ(summary.all.read_bytes, 400u);
}

TEST(RunStatistics, CausesSumToWallTime) {
  RunStatistics statistics;
  for (int64_t ns : {5, 7, 11}) statistics.Add(Decode(ns));
  const RunSummary summary = statistics.Summarize();
  int64_t sum = 0;
  for (const int64_t ns : summary.all.causes) sum += ns;
  EXPECT_EQ(sum, summary.all.wall_ns);
  EXPECT_EQ(sum, 23);
}

TEST(RunStatistics, SystemShareIsSystemTimeByWallTimeOfThePhase) {
  RunStatistics statistics;
  StepRecord prompt = Prompt(1'000, 8, 1);
  prompt.system_ns = 900;
  statistics.Add(prompt);
  for (const int64_t system_ns : {100, 300}) {
    StepRecord decode = Decode(1'000);
    decode.system_ns = system_ns;
    statistics.Add(decode);
  }
  const RunSummary summary = statistics.Summarize();
  EXPECT_DOUBLE_EQ(summary.prompt.system_share(), 0.9);
  EXPECT_DOUBLE_EQ(summary.decode.system_share(), 0.2);
  EXPECT_DOUBLE_EQ(summary.all.system_share(), 1300.0 / 3000);
  EXPECT_EQ(RunStatistics().Summarize().decode.system_share(), 0);
}

TEST(RunStatistics, SlowestTokenKeepsItsStep) {
  RunStatistics statistics;
  statistics.Add(Prompt(1'000'000, 8, 1));  // slower, but no gap between tokens
  StepRecord slow = Decode(900);
  slow.step = 17;
  slow.worst_misses.push_back({.id = {3, 4}, .read_ns = 800});
  statistics.Add(Decode(10));
  statistics.Add(slow);
  statistics.Add(Decode(20));
  const RunSummary summary = statistics.Summarize();
  EXPECT_EQ(summary.slowest.step, 17);
  ASSERT_EQ(summary.slowest.worst_misses.size(), 1u);
  EXPECT_EQ(summary.slowest.worst_misses[0].id, (ExpertId{3, 4}));
}

TEST(RunStatistics, EachSequenceOfABatchHasItsGap) {
  RunStatistics statistics;
  statistics.Add(Decode(10, 3));
  EXPECT_EQ(statistics.Summarize().gaps.count, 3);
}

TEST(RunStatistics, AFailedStepEndsNoGap) {
  RunStatistics statistics;
  StepRecord failed = Decode(10);
  failed.tokens = 0;
  statistics.Add(failed);
  EXPECT_EQ(statistics.Summarize().gaps.count, 0);
}

}  // namespace
}  // namespace stoker
