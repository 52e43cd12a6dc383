// The engine and the simulator over the same routing: the same hits and misses, step by step.
#include "runtime/simulation/slot_replay.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cache/policy.h"
#include "io/gguf.h"
#include "io/modelled_reader.h"
#include "runtime/model_identity.h"
#include "runtime/simulation/simulation.h"
#include "runtime/usage_profile.h"
#include "tests/runtime/recorded_run.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

constexpr int kTokens = 12;
constexpr int64_t kExpertCount = 6 * 64;  // of the shipped model

EngineOptions Options(uint64_t extra_bytes) {
  EngineOptions options = SmallOptions();
  options.chunk = 16;
  if (extra_bytes == 0) return options;
  const auto engine = OpenOrDie(options);
  options.ram = {.kind = MemoryBudget::Kind::kBytes,
                 .bytes = engine->info().plan.minimum_bytes + extra_bytes};
  return options;
}

void ExpectSameCounts(const RecordedRun& run, const EngineOptions& options) {
  const SimulatedRun replay = {.policy = options.policy,
                               .admission = options.admission,
                               .budget_bytes = run.trace.header.budget_bytes,
                               .is_recorded_budget = true,
                               .layer_floor = options.layer_floor,
                               .settings = options.settings};
  const auto results = Simulate(run.trace, {&replay, 1}, {}, FitTiming(run.trace, {}));
  ASSERT_TRUE(results.ok()) << results.status();
  const ReplayResult& result = results->front();
  ASSERT_EQ(result.steps.size(), run.steps.size());
  uint64_t read_bytes = 0;
  for (size_t i = 0; i < run.steps.size(); ++i) {
    ASSERT_EQ(result.steps[i].hits, run.steps[i].hits) << options.policy << " step " << i;
    ASSERT_EQ(result.steps[i].misses, run.steps[i].misses) << options.policy << " step " << i;
    read_bytes += run.steps[i].read_bytes;
  }
  EXPECT_EQ(result.decode.read_bytes + result.prompt.read_bytes, read_bytes);
  EXPECT_GT(result.decode.misses + result.prompt.misses, 0u);
}

class EngineAndSimulator : public testing::TestWithParam<std::string> {};

TEST_P(EngineAndSimulator, CountTheSameAtEveryBudget) {
  for (const uint64_t extra_bytes : {uint64_t{0}, uint64_t{1} << 20, uint64_t{6} << 20}) {
    EngineOptions options = Options(extra_bytes);
    options.policy = GetParam();
    SCOPED_TRACE(extra_bytes);
    const RecordedRun run = RecordRun(options, 1, kTokens);
    ExpectSameCounts(run, options);
    if (extra_bytes > 0) {
      EXPECT_GT(run.steps.back().hits, 0u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, EngineAndSimulator,
                         testing::ValuesIn(SimulatedPolicies(/*has_profile=*/false)),
                         [](const auto& row) {
                           std::string name = row.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(EngineAndSimulator, CountTheSameForBatchesThatShareExperts) {
  EngineOptions options = Options(uint64_t{3} << 20);
  options.sequences_max = 3;
  ExpectSameCounts(RecordRun(options, 3, kTokens), options);
}

TEST(EngineAndSimulator, CountTheSameForEveryAdmission) {
  EngineOptions options = Options(uint64_t{3} << 20);
  for (const AdmissionRow& admission : Admissions()) {
    options.admission = admission.name;
    SCOPED_TRACE(options.admission);
    ExpectSameCounts(RecordRun(options, 1, kTokens), options);
  }
}

absl::StatusOr<ReplayResult> ReplayWith(const RecordedRun& run, const std::string& prefetch) {
  const UseStream stream = FlattenTrace(run.trace, UseGrouping::kStep);
  SlotOptions options = {.budget_bytes = run.trace.header.budget_bytes, .is_recorded_budget = true};
  options.prefetch = prefetch;
  return ReplaySlots(run.trace, stream, options, TimingModel());
}

// Computing takes no time on a clock that only waiting moves; nor does it in the replay.
TimingModel OnlyTheDrive() {
  TimingModel timing;
  timing.drive_rate.value = 1e8;
  timing.drive_latency_ns.value = 50'000;
  timing.expert_rate.value = 1e18;
  timing.layer_ns.value = 0;
  return timing;
}

RecordedRun RecordOnVirtualClock(const EngineOptions& options) {
  const TimingModel timing = OnlyTheDrive();
  VirtualClock clock;
  Engine::Parts parts;
  parts.clock = &clock;
  parts.wrap_reader = [&](std::unique_ptr<BlockReader> inner) {
    ModelledReader::ModelOptions model;
    model.rate = timing.drive_rate.value;
    model.latency_ns = static_cast<int64_t>(timing.drive_latency_ns.value);
    return std::make_unique<ModelledReader>(model, clock, std::move(inner));
  };
  return RecordRun(options, 1, kTokens, parts);
}

void ExpectSameSteps(const std::vector<ReplayResult>& results, const RecordedRun& run) {
  const ReplayResult& result = results.front();
  ASSERT_EQ(result.steps.size(), run.steps.size());
  for (size_t i = 0; i < run.steps.size(); ++i) {
    EXPECT_EQ(result.steps[i].hits, run.steps[i].hits) << "step " << i;
    EXPECT_EQ(result.steps[i].misses, run.steps[i].misses) << "step " << i;
  }
}

TEST(EngineAndSimulator, CountTheSameWithPrefetchOnAVirtualClock) {
  for (const char* prefetch : {"lookahead", "previous-token", "popularity", "co-occurrence"}) {
    for (const uint64_t extra_bytes : {uint64_t{1} << 20, uint64_t{5} << 20}) {
      SCOPED_TRACE(fmt::format("{} with {}", prefetch, extra_bytes));
      EngineOptions options = Options(extra_bytes);
      options.prefetch = prefetch;
      const RecordedRun run = RecordOnVirtualClock(options);
      const SimulatedRun replay = {.policy = options.policy,
                                   .prefetch = prefetch,
                                   .budget_bytes = run.trace.header.budget_bytes,
                                   .is_recorded_budget = true};
      const auto results = Simulate(run.trace, {&replay, 1}, {}, OnlyTheDrive());
      ASSERT_TRUE(results.ok()) << results.status();
      ExpectSameSteps(*results, run);
    }
  }
}

// With a profile a run also starts warm, so here too the clock has to be one that can be repeated.
TEST(EngineAndSimulator, CountTheSameByAProfileOfEarlierRuns) {
  const TemporaryDirectory folder;
  const GgufModel gguf = GgufModel::Open(ShippedModelPath()).value();
  EngineOptions options = Options(uint64_t{2} << 20);
  options.profile = folder.File("a.profile");
  RecordOnVirtualClock(options);
  for (const char* policy : {"static", "static-per-layer", "lfu"}) {
    SCOPED_TRACE(policy);
    options.policy = policy;
    SimulationOptions simulation;
    simulation.profile = ReadProfile(options.profile, IdentifyModel(gguf), kExpertCount).uses;
    ASSERT_FALSE(simulation.profile.empty());
    const RecordedRun run = RecordOnVirtualClock(options);
    const SimulatedRun replay = {.policy = policy,
                                 .budget_bytes = run.trace.header.budget_bytes,
                                 .is_recorded_budget = true};
    const auto results = Simulate(run.trace, {&replay, 1}, simulation, OnlyTheDrive());
    ASSERT_TRUE(results.ok()) << results.status();
    ExpectSameSteps(*results, run);
    EXPECT_GT(run.steps.back().hits, 0u);
    EXPECT_GT(run.steps.back().misses, 0u);
  }
}

TEST(SlotReplay, PrefetchesWhatPredictorsGuessAndRepeatsItself) {
  const RecordedRun run = RecordRun(Options(uint64_t{3} << 20), 1, 2 * kTokens);
  const auto without = ReplayWith(run, "none");
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ(without->hint_bytes, 0u);
  for (const char* prefetch : {"previous-token", "popularity", "co-occurrence"}) {
    const auto first = ReplayWith(run, prefetch);
    const auto second = ReplayWith(run, prefetch);
    ASSERT_TRUE(first.ok() && second.ok()) << first.status();
    EXPECT_EQ(first->decode.accesses, without->decode.accesses);
    EXPECT_EQ(first->decode.hits, second->decode.hits) << prefetch;
    EXPECT_EQ(first->step_ns, second->step_ns) << prefetch;
    EXPECT_EQ(first->hint_bytes, second->hint_bytes) << prefetch;
  }
  EXPECT_GT(ReplayWith(run, "previous-token")->hint_bytes, 0u);
}

TEST(SlotReplay, LookaheadWithoutTheModelsGuessesIsRefused) {
  const auto result = ReplayWith(RecordRun(Options(0), 1, 2), "lookahead");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("no such guesses"), absl::string_view::npos)
      << result.status();
}

// A trace tells positions, not which tokens stood there.
TEST(SlotReplay, GuessesByTokenAreRefused) {
  const auto result = ReplayWith(RecordRun(Options(0), 1, 2), "token");
  ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  for (const char* part : {"\"token\"", "lives by the ids of tokens", "try: measure it with"}) {
    EXPECT_NE(result.status().message().find(part), absl::string_view::npos) << result.status();
  }
}

}  // namespace
}  // namespace stoker
