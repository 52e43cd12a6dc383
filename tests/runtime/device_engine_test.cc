// The engine on a modelled GPU: what it takes, what it counts, and what happens when it fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/status.h"
#include "device/modelled_device.h"
#include "runtime/inspection.h"
#include "runtime/trace/trace.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kPromptTokens = 8;

EngineOptions DeviceOptionsOf(MemoryBudget vram) {
  EngineOptions options = SmallOptions();
  options.chunk = 16;
  options.device = "modelled";
  options.modelled.memory_bytes = uint64_t{1} << 30;
  options.vram = vram;
  return options;
}

constexpr MemoryBudget kMinimum = {.kind = MemoryBudget::Kind::kMinimum};
constexpr MemoryBudget kAuto = {.kind = MemoryBudget::Kind::kAuto};

Engine::Parts SetLinks() {
  return {.links = LinkRates{.host = 2e9, .host_row = 8e9, .copy_in = 2e9, .copy_out = 2e9}};
}

SequenceRequest ShortRequest(const Engine& engine, int64_t tokens) {
  std::vector<TokenId> prompt = PromptIds(engine);
  prompt.resize(kPromptTokens);
  return GreedyRequest(prompt, tokens);
}

class Numbers final : public CounterVisitor {
 public:
  void Counter(std::string_view name, uint64_t value) override {
    values[std::string(name)] = static_cast<double>(value);
  }
  void Gauge(std::string_view name, double value) override { values[std::string(name)] = value; }
  std::map<std::string, double> values;
};

double NumberOf(const Engine& engine, const std::string& name) {
  Numbers numbers;
  engine.Report(numbers);
  EXPECT_TRUE(numbers.values.contains(name)) << name;
  return numbers.values[name];
}

TEST(DeviceEngine, TakesOfTheDeviceWhatThePlanSaysToTheByte) {
  const auto inspection = Inspect(DeviceOptionsOf(kAuto));
  ASSERT_TRUE(inspection.ok()) << inspection.status();
  const DevicePlan& bounds = inspection->plan.device;
  for (const double share : {0.0, 0.3, 1.0}) {
    const uint64_t vram = bounds.minimum_bytes +
                          static_cast<uint64_t>(share * static_cast<double>(bounds.full_bytes -
                                                                            bounds.minimum_bytes));
    const auto engine =
        OpenOrDie(DeviceOptionsOf({.kind = MemoryBudget::Kind::kBytes, .bytes = vram}), SetLinks());
    const DevicePlan& plan = engine->info().plan.device;
    EXPECT_LE(plan.total_bytes, vram);
    EXPECT_EQ(NumberOf(*engine, "device_taken_bytes"),
              static_cast<double>(plan.total_bytes - plan.driver_bytes));
  }
}

TEST(DeviceEngine, TellsItsDeviceAndKeepsToThePlanThatInspectionGives) {
  const EngineOptions options = DeviceOptionsOf(kAuto);
  const auto plan = PlanRun(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto engine = OpenOrDie(options, SetLinks());
  EXPECT_EQ(engine->info().device, "modelled GPU");
  EXPECT_EQ(FormatPlan(engine->info().plan), FormatPlan(*plan));
  EXPECT_EQ(engine->info().links->host, 2e9);
}

TEST(DeviceEngine, WithEverythingInVramTheDeviceComputesEveryExpert) {
  EngineOptions options = DeviceOptionsOf(kAuto);
  options.place = PlaceRule::kGpu;
  const auto engine = OpenOrDie(options, SetLinks());
  Generate(*engine, ShortRequest(*engine, 8));
  const CacheCounts counts = engine->cache_counts();
  EXPECT_GT(counts.device_experts, 0u);
  EXPECT_EQ(counts.host_experts, 0u);
  EXPECT_GT(counts.vram_hits, 0u);
  EXPECT_GT(counts.vram_resident, 0);
  EXPECT_GT(counts.copied_in_bytes, 0u);
}

TEST(DeviceEngine, WithoutExpertsInVramTheProcessorComputesEveryExpert) {
  const auto engine = OpenOrDie(DeviceOptionsOf(kMinimum), SetLinks());
  uint64_t experts = 0;
  ASSERT_TRUE(engine->Add(ShortRequest(*engine, 4)).ok());
  while (!engine->idle()) {
    ASSERT_TRUE(engine->Step().ok());
    const StepRecord& step = engine->last_step();
    EXPECT_EQ(step.device_experts, 0u);
    EXPECT_EQ(step.host_experts, step.hits + step.misses);
    EXPECT_EQ(step.vram_hits, 0u);
    experts += step.host_experts;
  }
  EXPECT_GT(experts, 0u);
  EXPECT_EQ(engine->cache_counts().copied_in_bytes, 0u);
}

TEST(DeviceEngine, ADraftModelHasAStreamOfItsOwn) {
  for (const std::string& draft :
       {std::string("mtp"), SourceDir() + "/models/draft-1m.q8_0.gguf"}) {
    EngineOptions options = DeviceOptionsOf(kMinimum);
    options.draft = draft;
    options.draft_length = 2;
    const auto engine = OpenOrDie(options, SetLinks());
    Generate(*engine, ShortRequest(*engine, 4));
    EXPECT_GT(engine->draft_totals().checked, 0u);
    EXPECT_EQ(NumberOf(*engine, "modelled_background_busy_ns") > 0, draft != "mtp");
  }
}

TEST(DeviceEngine, GuessesTheNextRoutersThatItIsAskedFor) {
  EngineOptions options = DeviceOptionsOf(kMinimum);
  options.prefetch = "lookahead";
  const absl::StatusOr<MemoryPlan> least = PlanRun(options);
  ASSERT_TRUE(least.ok()) << least.status();
  // Room for guesses: a quarter of the slots is theirs.
  options.ram = {.kind = MemoryBudget::Kind::kBytes,
                 .bytes = least->minimum_bytes + (least->full_bytes - least->minimum_bytes) / 3};
  const auto engine = OpenOrDie(options, SetLinks());
  Generate(*engine, ShortRequest(*engine, 12));
  EXPECT_GT(NumberOf(*engine, "prefetch_right"), 0);
  EXPECT_GT(engine->cache_counts().hints.issued, 0u);
  EXPECT_GT(engine->cache_counts().hints.used + engine->cache_counts().hints.late, 0u);
}

// Steps of an engine without sequences: they do nothing but look at drive and device.
void PollUntilItHolds(Engine& engine, int64_t expert_count) {
  constexpr int kPollsMax = 50'000'000;  // the drive is a real one
  for (int i = 0; i < kPollsMax && engine.cache_counts().resident < expert_count; ++i) {
    ASSERT_TRUE(engine.Step().ok());
  }
}

TEST(DeviceEngine, WhatVramHasRoomForIsReadBeforeItIsUsed) {
  const auto engine = OpenOrDie(DeviceOptionsOf(kAuto), SetLinks());
  const int64_t expert_count = engine->spec().experts.expert_count();
  PollUntilItHolds(*engine, expert_count);
  EXPECT_EQ(engine->cache_counts().vram_resident, expert_count);
  EXPECT_EQ(engine->cache_counts().warm.issued, static_cast<uint64_t>(expert_count));
  // From the first token on nothing is missing; once the last copies have come, which were on their
  // way, nobody waits in the middle of a step.
  const auto id = engine->Add(ShortRequest(*engine, 3));
  ASSERT_TRUE(id.ok()) << id.status();
  SequenceOutcome outcome;
  double waits = 0;
  while (!engine->idle()) {
    const double before = NumberOf(*engine, "device_waits");
    const auto events = engine->Step();
    ASSERT_TRUE(events.ok()) << events.status();
    AddEvents(*events, *id, outcome);
    waits = NumberOf(*engine, "device_waits") - before;
    EXPECT_EQ(engine->last_step().misses, 0u);
    EXPECT_EQ(engine->last_step().vram_hits, engine->last_step().hits);
  }
  EXPECT_EQ(waits, 1);
  const auto cold = OpenOrDie(SmallOptions());
  EXPECT_EQ(outcome.tokens, Generate(*cold, ShortRequest(*cold, 3)).tokens);
}

TEST(DeviceEngine, VramThatHasNotRoomForAllIsFilledByUseAlone) {
  const auto whole = PlanRun(DeviceOptionsOf(kAuto));
  ASSERT_TRUE(whole.ok()) << whole.status();
  const DevicePlan& device = whole->device;
  const auto engine =
      OpenOrDie(DeviceOptionsOf({.kind = MemoryBudget::Kind::kBytes,
                                 .bytes = (device.minimum_bytes + device.full_bytes) / 2}),
                SetLinks());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(engine->Step().ok());
  EXPECT_EQ(engine->cache_counts().resident, 0);
  EXPECT_EQ(engine->cache_counts().warm.issued, 0u);
}

TEST(DeviceEngine, WaitsForTheDeviceAreCausesOfTheirOwn) {
  const auto engine = OpenOrDie(DeviceOptionsOf(kAuto), SetLinks());
  ASSERT_TRUE(engine->Add(ShortRequest(*engine, 2)).ok());
  int64_t waited_ns = 0;
  while (!engine->idle()) {
    ASSERT_TRUE(engine->Step().ok());
    waited_ns += engine->last_step().causes[static_cast<size_t>(Cause::kWaitDevice)];
  }
  EXPECT_GT(waited_ns, 0);
}

TEST(DeviceEngine, LinksAreMeasuredWhereExpertsArePlacedByThem) {
  const auto links_of = [](MemoryBudget vram, PlaceRule rule) {
    EngineOptions options = DeviceOptionsOf(vram);
    options.place = rule;
    return OpenOrDie(options)->info().links;
  };
  const std::optional<LinkRates> links = links_of(kAuto, PlaceRule::kAuto);
  ASSERT_TRUE(links.has_value());
  EXPECT_GT(links->host, 0);
  EXPECT_GT(links->copy_in, 0);
  EXPECT_GT(links->copy_beside_host, 0);
  EXPECT_GT(links->drive, 0);
  EXPECT_EQ(links->device, ModelledRates().memory_bytes_per_second);
  EXPECT_FALSE(links_of(kAuto, PlaceRule::kCpu).has_value());
  EXPECT_FALSE(links_of(kMinimum, PlaceRule::kAuto).has_value());
}

// What ChoosePlaces says of a placement's experts, whatever order they come in.
void ExpectFollows(const Trace& trace, const TracePlacement& placement) {
  const auto place = static_cast<size_t>(placement.layer_index);
  const absl::Span<const TracePlaced> placed(trace.placed.data() + placement.first,
                                             static_cast<size_t>(placement.count));
  std::vector<PlaceCandidate> experts;
  for (const TracePlaced& expert : placed) {
    experts.push_back({.key = expert.expert,
                       .bytes = trace.header.layers[place].expert_bytes,
                       .rows = expert.rows,
                       .is_worth_keeping = expert.is_worth_keeping});
  }
  std::reverse(experts.begin(), experts.end());
  const PlaceQuestion question = {.rule = PlaceRule::kAuto,
                                  .rates = trace.rates[static_cast<size_t>(placement.rates_index)],
                                  .is_from_file = placement.is_from_file,
                                  .device_backlog_bytes = placement.device_backlog_bytes};
  EXPECT_EQ(ChoosePlaces(question, absl::MakeSpan(experts)), placement.copy_count);
  for (size_t i = 0; i < placed.size(); ++i) EXPECT_EQ(experts[i].key, placed[i].expert);
}

TEST(DeviceEngine, WhereExpertsWereComputedFollowsFromTheTrace) {
  const TemporaryDirectory folder;
  EngineOptions options = DeviceOptionsOf(kAuto);
  const absl::StatusOr<Inspection> inspection = Inspect(options);
  ASSERT_TRUE(inspection.ok()) << inspection.status();
  const DevicePlan& all = inspection->plan.device;
  options.vram = {.kind = MemoryBudget::Kind::kBytes,
                  .bytes = all.minimum_bytes + (all.full_bytes - all.minimum_bytes) / 4};
  options.trace_path = folder.File("run.trace");
  {
    const auto engine = OpenOrDie(options, SetLinks());
    Generate(*engine, ShortRequest(*engine, 8));
  }
  const absl::StatusOr<Trace> trace = ReadTrace(options.trace_path);
  ASSERT_TRUE(trace.ok()) << trace.status();
  int64_t copied = 0, computed = 0;
  for (const TracePlacement& placement : trace->placements) {
    ExpectFollows(*trace, placement);
    copied += placement.copy_count;
    computed += placement.count - placement.copy_count;
  }
  EXPECT_GT(copied, 0);
  EXPECT_GT(computed, 0);
  EXPECT_EQ(trace->rates.front().host, 2e9);
  EXPECT_GT(trace->rates.size(), 1u);  // estimates have followed
}

TEST(DeviceEngine, ADeviceThatFailsEndsTheSequencesWithItsError) {
  ModelledDevice* device = nullptr;
  Engine::Parts parts = SetLinks();
  parts.open_device = [&device]() -> absl::StatusOr<std::unique_ptr<Device>> {
    auto made = MakeModelledDevice({.modelled_memory_bytes = uint64_t{1} << 30});
    if (!made.ok()) return made.status();
    device = made->get();
    return *std::move(made);
  };
  const auto engine = OpenOrDie(DeviceOptionsOf(kAuto), parts);
  ASSERT_TRUE(engine->Add(ShortRequest(*engine, 16)).ok());
  ASSERT_TRUE(engine->Step().ok());
  ASSERT_TRUE(engine->last_error().ok()) << engine->last_error();
  device->FailOperation(5);
  const auto events = engine->Step();
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->front().finish, FinishReason::kFailed);
  EXPECT_FALSE(engine->last_error().ok());
  EXPECT_THAT(std::string(MessageOf(engine->last_error())), HasSubstr("step 2"));
  EXPECT_TRUE(engine->idle());
}

TEST(DeviceEngine, VramBelowTheMinimumIsRefusedBeforeAnythingIsTaken) {
  const auto engine = Engine::Open(
      DeviceOptionsOf({.kind = MemoryBudget::Kind::kBytes, .bytes = 1 << 20}), nullptr);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(engine.status())),
              AllOf(HasSubstr("VRAM"), HasSubstr("--vram"), HasSubstr("resident weights")));
}

}  // namespace
}  // namespace stoker
