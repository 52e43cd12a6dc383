// The engine on a modelled GPU and the simulator over the same routing: the same hits in each tier,
// and about the same time.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/inspection.h"
#include "runtime/simulation/simulation.h"
#include "tests/runtime/modelled_run.h"

namespace stoker {
namespace {

constexpr int kTokens = 10;

struct Tiers {
  double vram_share = 0;   // of all experts, in slots
  uint64_t ram_bytes = 0;  // more than the least that works
  PlaceRule place = PlaceRule::kAuto;
};

EngineOptions TieredOptions(const Tiers& tiers) {
  EngineOptions options = SmallOptions();
  options.chunk = 3;
  options.model_path = TinyModelPath();
  options.device = "modelled";
  options.modelled.memory_bytes = uint64_t{1} << 30;
  const auto bounds = Inspect(options);
  EXPECT_TRUE(bounds.ok()) << bounds.status();
  const DevicePlan& device = bounds->plan.device;
  const uint64_t slots = device.full_bytes - device.minimum_bytes;
  options.vram = {.kind = MemoryBudget::Kind::kBytes,
                  .bytes = device.minimum_bytes +
                           static_cast<uint64_t>(tiers.vram_share * static_cast<double>(slots))};
  const auto least = Inspect(options);
  EXPECT_TRUE(least.ok()) << least.status();
  options.ram = {.kind = MemoryBudget::Kind::kBytes,
                 .bytes = least->plan.minimum_bytes + tiers.ram_bytes};
  options.place = tiers.place;
  return options;
}

TimingModel TimingOf(const ModelledSpeeds& speeds) {
  TimingModel timing;
  timing.drive_rate.value = speeds.drive_rate;
  timing.drive_latency_ns.value = static_cast<double>(speeds.drive_latency_ns);
  timing.expert_rate.value = speeds.host_rate;
  timing.layer_ns.value = 0;
  timing.copy_in_rate.value = speeds.device.copy_in_bytes_per_second;
  timing.copy_out_rate.value = speeds.device.copy_out_bytes_per_second;
  timing.copy_latency_ns.value = static_cast<double>(speeds.device.copy_in_ns);
  timing.device_rate.value = speeds.device.memory_bytes_per_second;
  timing.device_latency_ns.value =
      static_cast<double>(speeds.device.launch_ns + speeds.device.copy_in_ns);
  return timing;
}

ReplayResult Replayed(const RecordedRun& run, const TimingModel& timing) {
  const SimulatedRun replay = RecordedRunOf(run.trace.header);
  auto results = Simulate(run.trace, {&replay, 1}, {}, timing);
  EXPECT_TRUE(results.ok()) << results.status();
  return results.ok() ? std::move(results->front()) : ReplayResult();
}

void ExpectSameCounts(const EngineOptions& options) {
  const ModelledSpeeds speeds;
  const RecordedRun run = RunModelled(options, speeds, kTokens);
  const ReplayResult result = Replayed(run, TimingOf(speeds));
  ASSERT_EQ(result.steps.size(), run.steps.size());
  PhaseCounts all;
  for (size_t i = 0; i < run.steps.size(); ++i) {
    const StepRecord& step = run.steps[i];
    ASSERT_EQ(result.steps[i].hits, step.hits) << "step " << i;
    ASSERT_EQ(result.steps[i].vram_hits, step.vram_hits) << "step " << i;
    ASSERT_EQ(result.steps[i].misses, step.misses) << "step " << i;
    all.vram_hits += step.vram_hits;
    all.misses += step.misses;
    all.hits += step.hits;
    all.read_bytes += step.read_bytes;
    all.copied_in_bytes += step.copied_in_bytes;
    all.copied_out_bytes += step.copied_out_bytes;
  }
  EXPECT_EQ(result.decode.read_bytes + result.prompt.read_bytes, all.read_bytes);
  EXPECT_EQ(result.decode.copied_in_bytes + result.prompt.copied_in_bytes, all.copied_in_bytes);
  EXPECT_EQ(result.decode.copied_out_bytes + result.prompt.copied_out_bytes, all.copied_out_bytes);
  EXPECT_GT(all.vram_hits, 0u);
}

struct Store {
  std::string ram_policy;
  std::string vram_policy;
  Tiers tiers;
};

TEST(TieredEngineAndSimulator, CountTheSameForEachTiersOwnPolicy) {
  for (const Store& store :
       {Store{"lru", "", {0.1, 0}}, Store{"lru", "lfu", {0.3, 1 << 20}},
        Store{"lfu", "lru", {0.3, 1 << 20}}, Store{"s3-fifo", "least-stale", {0.6, 1 << 20}},
        Store{"auto", "lru-per-layer", {0.3, 1 << 20}}}) {
    SCOPED_TRACE(fmt::format("{} in RAM, {} in VRAM", store.ram_policy, store.vram_policy));
    EngineOptions options = TieredOptions(store.tiers);
    options.policy = store.ram_policy;
    options.vram_policy = store.vram_policy;
    ExpectSameCounts(options);
  }
}

TEST(TieredEngineAndSimulator, PlaceExpertsAlikeByEveryRule) {
  for (const PlaceRule place :
       {PlaceRule::kAuto, PlaceRule::kGpu, PlaceRule::kCpu, PlaceRule::kCopy}) {
    SCOPED_TRACE(std::string(NameOf(place)));
    ExpectSameCounts(TieredOptions({0.3, 1 << 20, place}));
  }
}

TEST(TieredEngineAndSimulator, CountTheSameOnceTheDeviceHoldsEverything) {
  ExpectSameCounts(TieredOptions({1, 1 << 20}));
}

// About a real machine's, for experts of 110 KiB.
ModelledSpeeds SomeMachine(double link_rate) {
  ModelledSpeeds speeds;
  speeds.drive_rate = 1e9;
  speeds.drive_latency_ns = 80'000;
  speeds.host_rate = 4e9;
  speeds.device = {.memory_bytes_per_second = 200e9,
                   .copy_in_bytes_per_second = link_rate,
                   .copy_out_bytes_per_second = link_rate};
  return speeds;
}

double DecodeSeconds(const RecordedRun& run) {
  int64_t ns = 0;
  for (const StepRecord& step : run.steps) ns += step.prompt_rows == 0 ? step.wall_ns : 0;
  return static_cast<double>(ns) / 1e9;
}

double PredictedSeconds(const RecordedRun& run, const TimingModel& timing) {
  const ReplayResult result = Replayed(run, timing);
  int64_t ns = 0;
  for (const int64_t step_ns : result.step_ns) ns += step_ns;
  return static_cast<double>(ns) / 1e9;
}

// Learns the machine from one run, and predicts how long runs with other budgets take: on that
// machine, and on one with another link, of which only the link is said.
TEST(TieredPrediction, IsWithinATenthOfTheRunAtOtherBudgetsAndBandwidths) {
  const RecordedRun learned = RunModelled(TieredOptions({0.2, 0}), SomeMachine(8e9), kTokens);
  for (const double link_rate : {8e9, 1e9}) {
    TimingOptions given;
    if (link_rate != 8e9) given.copy_in_rate = given.copy_out_rate = link_rate;
    const TimingModel timing = FitTimingByReplay(learned.trace, given);
    for (const Tiers& tiers :
         {Tiers{0.4, 1 << 20}, Tiers{0.1, 3 << 20}, Tiers{0.1, 3 << 20, PlaceRule::kGpu}}) {
      const RecordedRun run = RunModelled(TieredOptions(tiers), SomeMachine(link_rate), kTokens);
      EXPECT_GT(run.steps.back().vram_hits + run.steps.back().misses, 0u);
      EXPECT_NEAR(PredictedSeconds(run, timing) / DecodeSeconds(run), 1, 0.1)
          << tiers.vram_share << " in VRAM, place " << NameOf(tiers.place) << ", link "
          << link_rate;
    }
  }
}

}  // namespace
}  // namespace stoker
