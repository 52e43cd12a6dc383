// Claims of the analysis behind the report: latency.h, routing.h, residency.h, comparison.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "runtime/report/comparison.h"
#include "runtime/report/latency.h"
#include "runtime/report/residency.h"
#include "runtime/report/routing.h"
#include "runtime/report/run_analysis.h"
#include "tests/runtime/synthetic_trace.h"

namespace stoker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A trace of one layer, built by hand.
class SmallTrace {
 public:
  SmallTrace(int experts, int top_k) : top_k_(top_k) {
    trace.header.top_k = top_k;
    trace.header.layers.push_back({5, experts, 100});
  }

  // A step of one row a choice.
  TraceStep& Step(const std::vector<std::vector<uint16_t>>& choices, int64_t wall_ns = 0,
                  bool is_prompt = false) {
    TraceStep step = {.step = static_cast<int64_t>(trace.steps.size()), .wall_ns = wall_ns};
    step.rows = {static_cast<int64_t>(trace.rows.size()), static_cast<int64_t>(choices.size())};
    step.routings = {static_cast<int64_t>(trace.routings.size()), 1};
    step.tokens = static_cast<int>(choices.size());
    TraceRouting routing = {0, top_k_, static_cast<int64_t>(trace.ids.size()), 0};
    for (const std::vector<uint16_t>& ids : choices) {
      trace.rows.push_back({0, static_cast<int32_t>(trace.rows.size()), is_prompt});
      trace.ids.insert(trace.ids.end(), ids.begin(), ids.end());
      routing.id_count += static_cast<int64_t>(ids.size());
    }
    trace.routings.push_back(routing);
    step.causes[static_cast<size_t>(Cause::kAttention)] = wall_ns;
    step.residency.first = static_cast<int64_t>(trace.residency.size());
    step.misses.first = static_cast<int64_t>(trace.misses.size());
    step.lookaheads.first = static_cast<int64_t>(trace.lookaheads.size());
    trace.steps.push_back(step);
    return trace.steps.back();
  }
  void Change(ResidencyChange change, int expert, uint64_t bytes = 100) {
    trace.residency.push_back({change, 0, expert, bytes});
    ++trace.steps.back().residency.count;
  }
  void Miss(const MissRecord& miss) {
    trace.misses.push_back(miss);
    ++trace.steps.back().misses.count;
  }

  Trace trace;

 private:
  int top_k_;
};

TEST(Latency, PercentilesAreStoredValuesByNearestRank) {
  SmallTrace small(8, 1);
  for (int64_t ns = 2000; ns >= 1; --ns) small.Step({{0}}, ns);
  const GapPercentiles gaps = AnalyzeLatency(small.trace).gaps;
  EXPECT_EQ(gaps.count, 2000);
  EXPECT_EQ(gaps.p50_ns, 1000);
  EXPECT_EQ(gaps.p90_ns, 1800);
  EXPECT_EQ(gaps.p99_ns, 1980);
  EXPECT_EQ(gaps.p999_ns, 1998);
  EXPECT_EQ(gaps.max_ns, 2000);
}

TEST(Latency, EachSequenceOfABatchHasItsGap) {
  SmallTrace small(8, 1);
  small.Step({{0}, {1}, {2}}, 10);
  small.Step({{0}}, 30);
  const Latency latency = AnalyzeLatency(small.trace);
  EXPECT_EQ(latency.gaps.count, 4);
  EXPECT_EQ(latency.gaps.p50_ns, 10);
  EXPECT_EQ(latency.decode_steps, 2);
}

TEST(Latency, PromptStepsAndFailedStepsEndNoGap) {
  SmallTrace small(8, 1);
  small.Step({{0}, {1}}, 500, /*is_prompt=*/true);
  small.Step({{0}}, 10);
  small.Step({{0}}, 900).tokens = 0;
  const Latency latency = AnalyzeLatency(small.trace);
  EXPECT_EQ(latency.gaps.count, 1);
  EXPECT_EQ(latency.gaps.max_ns, 10);
  EXPECT_EQ(latency.prompt_rows, 2);
  EXPECT_EQ(latency.prompt_wall_ns, 500);
}

TEST(Latency, ALongRunIsDrawnInBucketsThatHoldEveryStep) {
  SmallTrace small(8, 1);
  const int64_t steps = 10 * kTimeBucketsMax + 3;
  for (int64_t s = 0; s < steps; ++s) small.Step({{0}}, s == 7 ? 5000 : 100);
  const Latency latency = AnalyzeLatency(small.trace);
  EXPECT_LE(latency.buckets.size(), static_cast<size_t>(kTimeBucketsMax));
  int64_t covered = 0;
  for (const TimeBucket& bucket : latency.buckets) {
    EXPECT_EQ(bucket.first_step, covered);
    covered += bucket.step_count;
  }
  EXPECT_EQ(covered, steps);
  EXPECT_EQ(latency.buckets[0].max_ns, 5000);
  EXPECT_EQ(latency.buckets[0].median_ns, 100);
  EXPECT_EQ(latency.buckets[1].max_ns, 100);
}

TEST(Latency, HistogramHoldsEveryGapOnceInItsBin) {
  const Latency latency = AnalyzeLatency(SyntheticTrace::Make({}));
  int64_t sum = 0;
  for (const GapBin& bin : latency.histogram) sum += bin.count;
  EXPECT_EQ(sum, latency.gaps.count);
  EXPECT_LE(latency.histogram.size(), static_cast<size_t>(kHistogramBinsMax));
  EXPECT_GT(latency.histogram.back().count, 0);
  EXPECT_EQ(latency.histogram.back().to_ns, latency.gaps.max_ns);
}

TEST(Latency, EqualGapsAreOneBinAndNoSpike) {
  SmallTrace small(8, 1);
  for (int s = 0; s < 10; ++s) small.Step({{0}}, 42);
  const Latency latency = AnalyzeLatency(small.trace);
  ASSERT_EQ(latency.histogram.size(), 1u);
  EXPECT_EQ(latency.histogram[0].count, 10);
  EXPECT_TRUE(latency.spikes.empty());
}

TEST(Latency, SpikesAreTheWorstFirstWithWhatTookLonger) {
  SmallTrace small(8, 1);
  for (int s = 0; s < 20; ++s) small.Step({{0}}, 100);
  small.Step({{0}}, 160).causes[static_cast<size_t>(Cause::kHead)] = 0;
  TraceStep& worst = small.Step({{0}}, 400);
  worst.causes = {};
  worst.causes[static_cast<size_t>(Cause::kAttention)] = 110;
  worst.causes[static_cast<size_t>(Cause::kWaitDrive)] = 290;
  small.Miss({.id = {5, 3}, .reason = MissReason::kNeverSeen, .read_ns = 100});
  small.Miss({.id = {5, 1}, .reason = MissReason::kEvicted, .evicted_step = 9, .read_ns = 200});
  small.Step({{0}}, 150);  // not above one and a half medians
  const Latency latency = AnalyzeLatency(small.trace);
  ASSERT_EQ(latency.spikes.size(), 2u);
  const Spike& spike = latency.spikes[0];
  EXPECT_EQ(spike.wall_ns, 400);
  EXPECT_EQ(spike.decode_step, 21);
  EXPECT_EQ(spike.excess_cause, Cause::kWaitDrive);
  EXPECT_EQ(spike.excess_ns, 290);
  ASSERT_EQ(spike.worst_misses.size(), 2u);
  EXPECT_EQ(spike.worst_misses[0].id, (ExpertId{5, 1}));
  EXPECT_EQ(latency.spikes[1].excess_cause, Cause::kAttention);
}

TEST(Latency, ATraceWithoutTimesIsNotTimed) {
  const Latency latency = AnalyzeLatency(SyntheticTrace::Make({.has_times = false}));
  EXPECT_FALSE(latency.is_timed);
  EXPECT_EQ(latency.tokens, 300);
  EXPECT_TRUE(latency.buckets.empty());
}

TEST(Routing, AnEvenSplitHasEntropyOne) {
  SmallTrace small(8, 2);
  for (uint16_t i = 0; i < 32; ++i) {
    small.Step({{static_cast<uint16_t>(2 * i % 8), static_cast<uint16_t>((2 * i + 1) % 8)}});
  }
  const LayerRouting layer = AnalyzeRouting(small.trace).layers[0];
  EXPECT_EQ(layer.layer, 5);
  EXPECT_EQ(layer.use_count, 64);
  EXPECT_DOUBLE_EQ(layer.entropy_bits, 3);
  EXPECT_DOUBLE_EQ(layer.entropy, 1);
  EXPECT_DOUBLE_EQ(layer.effective_experts, 8);
  EXPECT_EQ(layer.half_experts, 4);
  EXPECT_EQ(layer.unused_experts, 0);
  EXPECT_FALSE(layer.has_collapsed);
}

TEST(Routing, EntropyIsThatOfTheSharesOfUses) {
  SmallTrace small(4, 1);  // shares 1/2, 1/4, 1/4, 0
  for (const uint16_t id : {0, 1, 0, 2}) small.Step({{id}});
  const LayerRouting layer = AnalyzeRouting(small.trace).layers[0];
  EXPECT_DOUBLE_EQ(layer.entropy_bits, 1.5);
  EXPECT_DOUBLE_EQ(layer.entropy, 0.75);
  EXPECT_EQ(layer.half_experts, 1);
  EXPECT_EQ(layer.unused_experts, 1);
}

TEST(Routing, ALayerThatAlwaysChoosesTheSameHasCollapsed) {
  SmallTrace small(64, 2);
  for (int s = 0; s < 4 * 64; ++s) small.Step({{3, 9}});
  const LayerRouting layer = AnalyzeRouting(small.trace).layers[0];
  EXPECT_DOUBLE_EQ(layer.effective_experts, 2);
  EXPECT_TRUE(layer.has_collapsed);
}

TEST(Routing, TooFewUsesAreNoCollapse) {
  SmallTrace small(64, 2);
  for (int s = 0; s < 64; ++s) small.Step({{3, 9}});
  EXPECT_FALSE(AnalyzeRouting(small.trace).layers[0].has_collapsed);
}

TEST(Routing, ALayerThatUsesAllItsExpertsHasNotCollapsed) {
  SmallTrace small(2, 2);  // nothing to choose
  for (int s = 0; s < 40; ++s) small.Step({{0, 1}});
  EXPECT_FALSE(AnalyzeRouting(small.trace).layers[0].has_collapsed);
}

TEST(Routing, OnlyTheCollapsedLayerOfARunIsFound) {
  const Routing routing = AnalyzeRouting(SyntheticTrace::Make({.collapsed_layer = 2}));
  for (const LayerRouting& layer : routing.layers) {
    EXPECT_EQ(layer.has_collapsed, layer.layer == 3) << layer.layer;
  }
}

TEST(Routing, ReuseDistanceCountsOtherExpertsInBetween) {
  SmallTrace small(4, 1);
  for (const uint16_t id : {0, 0, 1, 2, 1, 0}) small.Step({{id}});
  const LayerRouting layer = AnalyzeRouting(small.trace).layers[0];
  // 0 again at once: 0; 1 after 2: 1; 0 after 1 and 2, however often: 2.
  EXPECT_THAT(layer.reuses, ElementsAre(1, 1, 1, 0));
  EXPECT_EQ(layer.first_uses, 3);
  EXPECT_EQ(layer.reuse_p50, 1);
  EXPECT_EQ(layer.reuse_p90, 2);
}

// A least-recently-used store of `room` experts of one layer.
double LruHits(const Trace& trace, size_t room) {
  std::vector<uint16_t> store;
  double hits = 0;
  for (const uint16_t id : trace.ids) {
    const auto place = std::find(store.begin(), store.end(), id);
    if (place != store.end()) {
      ++hits;
      store.erase(place);
    }
    store.insert(store.begin(), id);
    if (store.size() > room) store.pop_back();
  }
  return hits / static_cast<double>(trace.ids.size());
}

TEST(Routing, HitsByRoomAreThoseOfALeastRecentlyUsedStore) {
  const Trace trace = SyntheticTrace::Make({.layers = 1, .experts = 100, .decode_steps = 500});
  const Routing routing = AnalyzeRouting(trace);
  for (const size_t room : {1, 10, 25, 60, 100}) {
    EXPECT_NEAR(routing.hit_by_room[room], LruHits(trace, room), 1e-9) << room;
  }
}

TEST(Routing, PlacesThatHoldNoExpertAreNotUses) {
  SmallTrace small(4, 2);
  small.Step({{1, 0xFFFF}});
  EXPECT_EQ(AnalyzeRouting(small.trace).layers[0].use_count, 1);
}

TEST(Residency, HitsByLayerAreWhatWasNotRead) {
  SmallTrace small(8, 2);
  small.Step({{0, 1}, {1, 2}}).misses_count = 2;  // three distinct experts
  small.trace.steps.back().hits = 1;
  small.Change(ResidencyChange::kRead, 1);
  small.Change(ResidencyChange::kRead, 2);
  const Residency residency = AnalyzeResidency(small.trace);
  EXPECT_TRUE(residency.is_known);
  ASSERT_TRUE(residency.layers_known);
  const LayerResidency& layer = residency.layers[0];
  EXPECT_EQ(layer.hits.asked(), 3u);
  EXPECT_EQ(layer.hits.misses, 2u);
  EXPECT_EQ(layer.hits.ram, 1u);
  EXPECT_EQ(layer.read_bytes, 200u);
  EXPECT_EQ(residency.decode.misses, 2u);
  EXPECT_EQ(residency.prompt.asked(), 0u);
}

TEST(Residency, AHitIsInVramIfItWasThereWhenTheStepBegan) {
  SmallTrace small(8, 1);
  small.Step({{4}}).misses_count = 1;
  small.Change(ResidencyChange::kRead, 4);
  small.Change(ResidencyChange::kPromoted, 4);
  small.Step({{4}}).hits = 1;
  small.Change(ResidencyChange::kDemoted, 4);
  small.Step({{4}}).hits = 1;
  const TierHits hits = AnalyzeResidency(small.trace).layers[0].hits;
  EXPECT_EQ(hits.misses, 1u);
  EXPECT_EQ(hits.vram, 1u);
  EXPECT_EQ(hits.ram, 1u);
}

TEST(Residency, SumsOfLayersAreThoseOfSteps) {
  for (const bool has_vram : {false, true}) {
    const Trace trace = SyntheticTrace::Make({.has_prefetch = true, .has_vram = has_vram});
    const Residency residency = AnalyzeResidency(trace);
    TierHits sum;
    for (const LayerResidency& layer : residency.layers) {
      sum.ram += layer.hits.ram + layer.hits.vram;
      sum.misses += layer.hits.misses;
    }
    const TierHits &decode = residency.decode, &prompt = residency.prompt;
    EXPECT_EQ(sum.ram, decode.ram + decode.vram + prompt.ram + prompt.vram);
    EXPECT_EQ(sum.misses, decode.misses + prompt.misses);
  }
}

TEST(Residency, GuessesAreJudgedByWhatTheirLayerChose) {
  SmallTrace small(8, 2);
  small.trace.header.layers.push_back({6, 8, 100});
  TraceStep& step = small.Step({{0, 1}, {2, 3}});
  small.trace.routings.push_back({1, 2, 0, 4});  // the second layer chooses the same
  step.routings.count = 2;
  small.trace.guesses = {0, 7, 1, 3, 2, 6};  // three a row, of which two are right
  small.trace.lookaheads.push_back({0, 1, 3, 0, 6});
  step.lookaheads.count = 1;
  const LayerPrefetch layer = AnalyzeResidency(small.trace).prefetch[1];
  EXPECT_EQ(layer.chosen, 4);
  EXPECT_EQ(layer.guessed, 6);
  EXPECT_EQ(layer.right, 4);
  EXPECT_DOUBLE_EQ(layer.recall(), 1);
  EXPECT_DOUBLE_EQ(layer.precision(), 4.0 / 6);
}

TEST(Residency, HintsAreOnTimeUnlessTheStepWaited) {
  SmallTrace small(8, 2);
  small.Step({{0, 1}}).hits = 1;
  small.Change(ResidencyChange::kReadOnHint, 0);
  small.Change(ResidencyChange::kReadOnHint, 7);
  small.Change(ResidencyChange::kHintUsed, 0);
  small.Change(ResidencyChange::kHintUsed, 1);
  small.Change(ResidencyChange::kHintDropped, 6, 5);
  small.Change(ResidencyChange::kRead, 1);
  small.Change(ResidencyChange::kHintWasted, 7, 30);
  const Residency residency = AnalyzeResidency(small.trace);
  EXPECT_TRUE(residency.has_hints);
  const LayerPrefetch& layer = residency.prefetch[0];
  EXPECT_EQ(layer.hints_read, 2u);
  EXPECT_EQ(layer.hints_used, 2u);
  EXPECT_EQ(layer.hints_late, 1u);
  EXPECT_DOUBLE_EQ(layer.on_time(), 0.5);
  EXPECT_EQ(layer.hints_wasted, 1u);
  EXPECT_EQ(layer.hints_dropped, 1u);
  EXPECT_EQ(layer.wasted_bytes, 35u);
  EXPECT_EQ(residency.layers[0].hits.misses, 1u);  // the one that came late
}

TEST(Residency, WhatAnotherProgramNotedForEachUseIsCounted) {
  SmallTrace small(8, 2);
  small.Step({{0, 1}}, 0, /*is_prompt=*/true);
  small.Step({{0, 1}});
  small.Step({{0, 2}});
  small.trace.was_resident = {0, 0, 1, 1, 1, 0};
  const Residency residency = AnalyzeResidency(small.trace);
  EXPECT_TRUE(residency.layers_known);
  EXPECT_EQ(residency.prompt.misses, 2u);
  EXPECT_DOUBLE_EQ(residency.decode.hit_rate(), 0.75);
  EXPECT_DOUBLE_EQ(residency.layers[0].hits.hit_rate(), 0.5);
}

TEST(Comparison, ARunAgreesWithItself) {
  const Trace trace = SyntheticTrace::Make({});
  const Agreement agreement = CompareChoices(trace, trace);
  EXPECT_EQ(agreement.problem, "");
  for (const LayerAgreement& layer : agreement.layers) {
    EXPECT_EQ(layer.prompt.count, 40);
    EXPECT_EQ(layer.decode.count, 300);
    EXPECT_DOUBLE_EQ(layer.prompt.share(), 1);
    EXPECT_DOUBLE_EQ(layer.decode.best_share(), 1);
  }
}

TEST(Comparison, ChoicesAreComparedAsSetsAndTheFirstByItself) {
  SmallTrace a(8, 2), b(8, 2);
  a.Step({{0, 1}});
  b.Step({{1, 0}});
  a.Step({{2, 3}});
  b.Step({{2, 4}});
  const LayerAgreement layer = CompareChoices(a.trace, b.trace).layers[0];
  EXPECT_DOUBLE_EQ(layer.decode.share(), 0.75);
  EXPECT_DOUBLE_EQ(layer.decode.best_share(), 0.5);
}

TEST(Comparison, MoreChoicesAnewAgreeLess) {
  const Trace trace = SyntheticTrace::Make({});
  const auto share = [&trace](double other_choice) {
    const Trace other = SyntheticTrace::Make({.other_choice = other_choice});
    return CompareChoices(trace, other).layers[0].decode.share();
  };
  EXPECT_GT(share(0.1), 0.85);
  EXPECT_LT(share(0.1), 1);
  EXPECT_LT(share(0.5), share(0.1));
}

TEST(Comparison, ModelsOfOtherShapesAreNotCompared) {
  const Trace trace = SyntheticTrace::Make({});
  EXPECT_THAT(CompareChoices(trace, SyntheticTrace::Make({.layers = 5})).problem,
              HasSubstr("6 layers"));
  EXPECT_THAT(CompareChoices(trace, SyntheticTrace::Make({.experts = 16})).problem,
              HasSubstr("32 experts"));
}

TEST(RunAnalysis, FindingsNameTheTailTheDriveAndTheCollapse) {
  const RunAnalysis run = AnalyzeRun(
      SyntheticTrace::Make({.collapsed_layer = 2, .has_prefetch = true}), ReportOptions{});
  std::string text;
  for (const Finding& finding : FindingsOf(run)) text += finding.text + "\n";
  EXPECT_THAT(text, HasSubstr("A long tail"));
  EXPECT_THAT(text, HasSubstr("waits for the drive"));
  EXPECT_THAT(text, HasSubstr("Collapsed: layer 3 "));
  EXPECT_THAT(text, HasSubstr("were used"));
  EXPECT_THAT(text, testing::Not(HasSubstr("no cause")));
}

TEST(RunAnalysis, TimeWithoutACauseIsWarnedOf) {
  SmallTrace small(8, 1);
  TraceStep& step = small.Step({{0}}, 100);
  step.causes = {};
  step.causes[static_cast<size_t>(Cause::kOther)] = 100;
  bool is_warned = false;
  for (const Finding& finding : FindingsOf(AnalyzeRun(small.trace, {}))) {
    is_warned |= finding.is_warning && finding.text.find("no cause") != std::string::npos;
  }
  EXPECT_TRUE(is_warned);
}

TEST(RunAnalysis, TheDrivesRateIsOverTheTimeThatItWasBusy) {
  SmallTrace small(8, 1);
  TraceStep& step = small.Step({{0}}, 100);
  step.read_bytes = 1000;
  step.drive_busy_ns = 50;
  EXPECT_DOUBLE_EQ(AnalyzeRun(small.trace, {}).drive_rate, 2e10);
}

TEST(SyntheticTrace, SameSeedIsTheSameRun) {
  EXPECT_EQ(SyntheticTrace::Make({}).ids, SyntheticTrace::Make({}).ids);
  EXPECT_NE(SyntheticTrace::Make({}).ids, SyntheticTrace::Make({.seed = 2}).ids);
}

TEST(SyntheticTrace, CausesSumToWallTime) {
  for (const TraceStep& step : SyntheticTrace::Make({.has_vram = true}).steps) {
    EXPECT_EQ(std::accumulate(step.causes.begin(), step.causes.end(), int64_t{0}), step.wall_ns);
  }
}

}  // namespace
}  // namespace stoker
