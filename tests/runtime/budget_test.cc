// Claims of budget.h, over the model that ships with the project.
#include "runtime/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "base/status.h"
#include "runtime/step_limits.h"
#include "tests/runtime/shipped_model.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::Gt;
using testing::HasSubstr;
using testing::Lt;
using testing::Not;

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr MemoryLimits kRoomy = {
    .available_bytes = 64 * kGiB, .total_bytes = 64 * kGiB, .source = {}};

ModelSpec ReadSpec(const std::string& path) {
  const absl::StatusOr<GgufModel> gguf = GgufModel::Open(path);
  EXPECT_TRUE(gguf.ok()) << gguf.status();
  absl::StatusOr<ModelSpec> spec = ModelSpec::Read(*gguf);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *std::move(spec);
}

const ModelSpec& ShippedSpec() {
  static const ModelSpec* const spec = new ModelSpec(ReadSpec(ShippedModelPath()));
  return *spec;
}

EngineOptions WithRam(MemoryBudget ram) {
  EngineOptions options = SmallOptions();
  options.ram = ram;
  return options;
}

constexpr MemoryBudget kMinimum = {.kind = MemoryBudget::Kind::kMinimum};
constexpr MemoryBudget kAuto = {.kind = MemoryBudget::Kind::kAuto};
MemoryBudget Bytes(uint64_t bytes) { return {.kind = MemoryBudget::Kind::kBytes, .bytes = bytes}; }

absl::StatusOr<MemoryPlan> Plan(const EngineOptions& options, const MemoryLimits& limits = kRoomy,
                                const ModelSpec& spec = ShippedSpec()) {
  constexpr size_t kAlignment = 512;
  return PlanMemory(spec, options,
                    {.limits = limits, .thread_count = 2, .alignments = {&kAlignment, 1}},
                    /*tokenizer_bytes=*/1 << 20, /*draft=*/{});
}

// On a device that has this much left.
absl::StatusOr<MemoryPlan> PlanOnDevice(const EngineOptions& options,
                                        uint64_t available_bytes = 8 * kGiB,
                                        std::string_view kind = "modelled",
                                        const MemoryLimits& limits = kRoomy) {
  static constexpr size_t kAlignment = 512;
  PlannedMachine machine = {
      .limits = limits, .thread_count = 2, .alignments = {&kAlignment, 1}, .device_kind = kind};
  machine.device.name = "the GPU";
  machine.device.memory_bytes = available_bytes;
  machine.device.available_bytes = available_bytes;
  return PlanMemory(ShippedSpec(), options, machine, /*tokenizer_bytes=*/1 << 20, /*draft=*/{});
}

EngineOptions WithVram(MemoryBudget vram, MemoryBudget ram) {
  EngineOptions options = WithRam(ram);
  options.vram = vram;
  return options;
}

TEST(MemoryPlan, TotalIsTheSumOfItsPartsAndWithinTheBudget) {
  const MemoryPlan least = *Plan(WithRam(kMinimum));
  for (uint64_t bytes = least.minimum_bytes; bytes <= least.full_bytes;
       bytes += (least.full_bytes - least.minimum_bytes) / 7) {
    const MemoryPlan plan = *Plan(WithRam(Bytes(bytes)));
    EXPECT_EQ(plan.budget_bytes, bytes);
    EXPECT_EQ(plan.total_bytes, plan.trunk_bytes + plan.embedding_bytes + plan.kv_bytes +
                                    plan.workspace_bytes + plan.reader_bytes +
                                    plan.tokenizer_bytes + plan.process_bytes +
                                    plan.cache.arena_bytes + plan.cache.overhead_bytes);
    EXPECT_LE(plan.total_bytes, bytes);
  }
}

TEST(MemoryPlan, TheMinimumRunsAndAByteLessDoesNot) {
  const MemoryPlan least = *Plan(WithRam(kMinimum));
  EXPECT_EQ(least.budget_bytes, least.minimum_bytes);
  EXPECT_TRUE(Plan(WithRam(Bytes(least.minimum_bytes))).ok());
  const absl::Status status = Plan(WithRam(Bytes(least.minimum_bytes - 1))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr(std::to_string(least.minimum_bytes)), HasSubstr("resident weights"),
                    HasSubstr("kv cache"), HasSubstr("--chunk"), HasSubstr("--ram")));
}

TEST(MemoryPlan, EveryClassHasSlotsForTheExpertsOfOneToken) {
  const MemoryPlan least = *Plan(WithRam(kMinimum));
  ASSERT_FALSE(least.cache.classes.empty());
  for (const SlotClass& c : least.cache.classes) {
    EXPECT_GE(c.slot_count, ShippedSpec().config.experts_used);
  }
}

TEST(MemoryPlan, MoreThanEverythingIsNotTaken) {
  const MemoryPlan plan = *Plan(WithRam(Bytes(32 * kGiB)));
  EXPECT_LE(plan.total_bytes, plan.full_bytes);
  int64_t slots = 0;
  for (const SlotClass& c : plan.cache.classes) slots += c.slot_count;
  EXPECT_EQ(slots, ShippedSpec().experts.expert_count());
  const MemoryPlan full = *Plan(WithRam(Bytes(plan.full_bytes)));
  EXPECT_EQ(full.total_bytes, plan.total_bytes);
}

TEST(MemoryPlan, AutoLeavesAMarginAndTakesNoMoreThanEverything) {
  const MemoryPlan roomy = *Plan(WithRam(kAuto));
  EXPECT_EQ(roomy.budget_bytes, roomy.full_bytes);
  // 512 MiB is more than a 20th of 2 GiB.
  const uint64_t margin = kGiB / 2;
  const uint64_t wanted = (roomy.minimum_bytes + roomy.full_bytes) / 2;
  const MemoryPlan small =
      *Plan(WithRam(kAuto),
            {.available_bytes = wanted + margin, .total_bytes = 2 * kGiB, .source = "system"});
  EXPECT_EQ(small.budget_bytes, wanted);
  // A 20th of 40 GiB is more than 512 MiB.
  const MemoryPlan large =
      *Plan(WithRam(kAuto),
            {.available_bytes = wanted + 2 * kGiB, .total_bytes = 40 * kGiB, .source = "system"});
  EXPECT_EQ(large.budget_bytes, wanted);
}

TEST(MemoryPlan, AutoWithoutMemorySaysWhereTheLimitIs) {
  const absl::Status status =
      Plan(WithRam(kAuto),
           {.available_bytes = kGiB / 4, .total_bytes = kGiB, .source = "cgroup limit of 1 GiB"})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("cgroup limit of 1 GiB"));
}

TEST(MemoryPlan, AContextThatDoesNotFitIsSaidWithOneThatDoes) {
  EngineOptions options = WithRam(kMinimum);
  options.context = 128;
  const uint64_t budget = Plan(options)->minimum_bytes;
  options = WithRam(Bytes(budget));
  options.context = 2048;
  options.kv = "f32";
  const absl::Status status = Plan(options).status();
  ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(MessageOf(status));
  EXPECT_THAT(message, AllOf(HasSubstr("The context of 2048"), HasSubstr("--kv f16")));
  // What it proposes fits, and nothing longer does.
  const size_t at = message.find("--ctx ");
  ASSERT_NE(at, std::string::npos);
  options.context = std::stoi(message.substr(at + 6));
  EXPECT_TRUE(Plan(options).ok());
  ++options.context;
  EXPECT_FALSE(Plan(options).ok());
}

TEST(MemoryPlan, EachThingAskedForIsPaidFor) {
  const uint64_t base = Plan(WithRam(kMinimum))->minimum_bytes;
  const auto more = [&](auto change) {
    EngineOptions options = WithRam(kMinimum);
    change(options);
    return Plan(options)->minimum_bytes > base;
  };
  EXPECT_TRUE(more([](EngineOptions& o) { o.context = 1024; }));
  EXPECT_TRUE(more([](EngineOptions& o) { o.chunk = 128; }));
  EXPECT_TRUE(more([](EngineOptions& o) { o.kv = "f32"; }));
  EXPECT_TRUE(more([](EngineOptions& o) { o.sequences_max = 4; }));
  EXPECT_TRUE(more([](EngineOptions& o) { o.logits_rows_max = 64; }));
  EXPECT_TRUE(more([](EngineOptions& o) { o.prefetch = "lookahead"; }));
  EngineOptions rows = WithRam(kMinimum);
  rows.logits_rows_max = 64;
  const uint64_t without_hidden = Plan(rows)->minimum_bytes;
  rows.hidden_states = true;
  EXPECT_GT(Plan(rows)->minimum_bytes, without_hidden);
}

TEST(MemoryPlan, ADenseModelHasNoExpertsToPlan) {
  SKIP_WITHOUT_SHARED();
  const ModelSpec spec = ReadSpec(SharedPath("data/models/stories260K.gguf"));
  const MemoryPlan plan = *Plan(WithRam(kAuto), kRoomy, spec);
  EXPECT_EQ(plan.cache.arena_bytes, 0u);
  EXPECT_EQ(plan.minimum_bytes, plan.full_bytes);
  EXPECT_EQ(plan.total_bytes, plan.minimum_bytes);
  EXPECT_THAT(FormatPlan(plan), Not(HasSubstr("expert")));
}

int64_t SlotsOf(const std::vector<SlotClass>& classes) {
  int64_t slots = 0;
  for (const SlotClass& c : classes) slots += c.slot_count - c.transit_count;
  return slots;
}

TEST(DevicePlan, ADeviceTakesWeightsAndAttentionCacheFromTheHost) {
  const MemoryPlan host = *Plan(WithRam(kMinimum));
  const MemoryPlan plan = *PlanOnDevice(WithVram(kMinimum, kMinimum));
  EXPECT_EQ(plan.trunk_bytes, 0u);
  EXPECT_EQ(plan.kv_bytes, 0u);
  EXPECT_EQ(plan.device.trunk_bytes, host.trunk_bytes);
  EXPECT_GT(plan.device.kv_bytes, 0u);
  EXPECT_GT(plan.device.workspace_bytes, 0u);
  EXPECT_FALSE(host.device.is_used());
  EXPECT_EQ(host.device.total_bytes, 0u);
}

TEST(DevicePlan, GuessesOfRoutersArePaidForOnBothSides) {
  EngineOptions options = WithVram(kMinimum, kMinimum);
  const MemoryPlan without = *PlanOnDevice(options);
  options.prefetch = "lookahead";
  const MemoryPlan with = *PlanOnDevice(options);
  EXPECT_GT(with.device.workspace_bytes, without.device.workspace_bytes);
  EXPECT_GT(with.workspace_bytes, without.workspace_bytes);
}

TEST(DevicePlan, TotalsAreTheSumsOfTheirPartsAndWithinTheBudgets) {
  const DevicePlan least = PlanOnDevice(WithVram(kMinimum, kAuto))->device;
  ASSERT_LT(least.minimum_bytes, least.full_bytes);
  for (uint64_t bytes = least.minimum_bytes; bytes <= least.full_bytes;
       bytes += (least.full_bytes - least.minimum_bytes) / 7) {
    for (const MemoryBudget ram : {kMinimum, kAuto}) {
      const MemoryPlan plan = *PlanOnDevice(WithVram(Bytes(bytes), ram));
      const DevicePlan& device = plan.device;
      EXPECT_EQ(device.budget_bytes, bytes);
      EXPECT_EQ(device.slot_bytes, plan.cache.vram_bytes);
      EXPECT_EQ(device.total_bytes, device.trunk_bytes + device.kv_bytes + device.workspace_bytes +
                                        device.slot_bytes + device.driver_bytes);
      EXPECT_LE(device.total_bytes, bytes);
      const uint64_t store_bytes =
          plan.cache.arena_bytes + plan.cache.staging_bytes + plan.cache.overhead_bytes;
      EXPECT_EQ(plan.total_bytes, plan.embedding_bytes + plan.workspace_bytes + plan.reader_bytes +
                                      plan.tokenizer_bytes + plan.process_bytes +
                                      std::max(plan.loading_bytes, store_bytes));
      EXPECT_LE(plan.total_bytes, plan.budget_bytes);
    }
  }
}

TEST(DevicePlan, WeightsOnTheirWayToTheDeviceCountUntilTheStoreComes) {
  const MemoryPlan plan = *PlanOnDevice(WithVram(kMinimum, kMinimum));
  EXPECT_EQ(plan.loading_bytes, ShippedSpec().trunk_bytes);
  EXPECT_EQ(plan.total_bytes, plan.minimum_bytes);
  EXPECT_TRUE(PlanOnDevice(WithVram(kMinimum, Bytes(plan.minimum_bytes))).ok());
  const absl::Status status =
      PlanOnDevice(WithVram(kMinimum, Bytes(plan.minimum_bytes - 1))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(std::to_string(plan.minimum_bytes)));
}

TEST(DevicePlan, TheMinimumOfVramHoldsNoExpertAndAByteLessDoesNotRun) {
  const MemoryPlan least = *PlanOnDevice(WithVram(kMinimum, kAuto));
  EXPECT_EQ(least.device.budget_bytes, least.device.minimum_bytes);
  EXPECT_EQ(least.device.slot_bytes, 0u);
  EXPECT_EQ(least.cache.staging_bytes, 0u);
  const absl::Status status =
      PlanOnDevice(WithVram(Bytes(least.device.minimum_bytes - 1), kAuto)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(MessageOf(status)),
      AllOf(HasSubstr(std::to_string(least.device.minimum_bytes)), HasSubstr("resident weights"),
            HasSubstr("kv cache"), HasSubstr("--vram"), HasSubstr("--device cpu")));
}

TEST(DevicePlan, AContextThatDoesNotFitInVramIsSaidWithOneThatDoes) {
  EngineOptions options = WithVram(kMinimum, kAuto);
  options.context = 256;
  const uint64_t budget = PlanOnDevice(options)->device.minimum_bytes;
  options.context = 4096;
  options.vram = Bytes(budget);
  const absl::Status status = PlanOnDevice(options).status();
  ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const std::string message(MessageOf(status));
  const size_t at = message.find("--ctx ");
  ASSERT_NE(at, std::string::npos) << message;
  options.context = std::stoi(message.substr(at + 6));
  EXPECT_GE(options.context, 256);
  EXPECT_TRUE(PlanOnDevice(options).ok());
}

TEST(DevicePlan, AutoTakesWhatTheDeviceHasLeftButAMarginAndNoMoreThanEverything) {
  const DevicePlan roomy = PlanOnDevice(WithRam(kAuto))->device;
  EXPECT_EQ(roomy.budget_bytes, roomy.full_bytes);
  EXPECT_EQ(roomy.total_bytes, roomy.full_bytes);
  const uint64_t left = (roomy.minimum_bytes + roomy.full_bytes) / 2;
  EXPECT_EQ(PlanOnDevice(WithRam(kAuto), left)->device.budget_bytes, left - left / 16);
  const absl::Status status = PlanOnDevice(WithRam(kAuto), roomy.minimum_bytes - 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("what the GPU has left, less a margin"));
}

TEST(DevicePlan, MoreThanTheDeviceHasLeftIsRefusedUnlessItWouldNotBeUsed) {
  const DevicePlan roomy = PlanOnDevice(WithRam(kAuto))->device;
  const uint64_t left = roomy.full_bytes - 1;
  const absl::Status status = PlanOnDevice(WithVram(Bytes(roomy.full_bytes), kAuto), left).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr("the GPU"), HasSubstr(std::to_string(left)), HasSubstr("--vram")));
  EXPECT_TRUE(PlanOnDevice(WithVram(Bytes(64 * kGiB), kAuto), roomy.full_bytes).ok());
}

TEST(DevicePlan, WithEverythingInVramRamKeepsWhatATokenNeeds) {
  const MemoryPlan plan = *PlanOnDevice(WithRam(kAuto));
  EXPECT_EQ(SlotsOf(plan.cache.vram_classes), ShippedSpec().experts.expert_count());
  EXPECT_LT(SlotsOf(plan.cache.classes), ShippedSpec().experts.expert_count());
  for (const SlotClass& c : plan.cache.classes) {
    EXPECT_GE(c.slot_count, ShippedSpec().config.experts_used);
  }
}

TEST(DevicePlan, ADeviceThatIsToComputeExpertsNeedsRoomForOne) {
  for (const PlaceRule rule : {PlaceRule::kGpu, PlaceRule::kCopy}) {
    EngineOptions options = WithVram(kMinimum, kAuto);
    options.place = rule;
    const absl::Status status = PlanOnDevice(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const std::string message(MessageOf(status));
    EXPECT_THAT(message, AllOf(HasSubstr(std::string(NameOf(rule))), HasSubstr("--place auto")));
    // What it proposes does.
    const size_t at = message.find("--vram ");
    ASSERT_NE(at, std::string::npos) << message;
    options.vram = Bytes(std::stoull(message.substr(at + 7)));
    EXPECT_TRUE(PlanOnDevice(options).ok());
  }
  EngineOptions options = WithVram(kMinimum, kAuto);
  options.place = PlaceRule::kCpu;
  EXPECT_TRUE(PlanOnDevice(options).ok());
}

TEST(DevicePlan, MemoryOfAModelledDeviceIsMemoryOfThisMachine) {
  const EngineOptions options = WithVram(kMinimum, kAuto);
  const MemoryPlan roomy = *PlanOnDevice(options);
  ASSERT_GT(roomy.full_bytes, roomy.minimum_bytes);
  const uint64_t margin = kGiB / 2;
  const MemoryLimits limits = {
      .available_bytes = roomy.full_bytes + roomy.device.total_bytes + margin - 1,
      .total_bytes = kGiB,
      .source = {}};
  EXPECT_EQ(PlanOnDevice(options, 8 * kGiB, "modelled", limits)->budget_bytes,
            roomy.full_bytes - 1);
  const MemoryPlan real = *PlanOnDevice(options, 8 * kGiB, "cuda", kRoomy);
  const MemoryLimits enough = {
      .available_bytes = real.full_bytes + margin, .total_bytes = kGiB, .source = {}};
  EXPECT_EQ(PlanOnDevice(options, 8 * kGiB, "cuda", enough)->budget_bytes, real.full_bytes);
}

TEST(DevicePlan, ARealGpusDriverIsLeftItsShare) {
  const DevicePlan modelled = PlanOnDevice(WithRam(kAuto))->device;
  const MemoryPlan real = *PlanOnDevice(WithRam(kAuto), 8 * kGiB, "cuda");
  EXPECT_EQ(modelled.driver_bytes, 0u);
  EXPECT_GT(real.device.driver_bytes, 0u);
  EXPECT_EQ(real.device.minimum_bytes, modelled.minimum_bytes + real.device.driver_bytes);
}

TEST(DevicePlan, TheTableNamesEveryPartOfBothMemories) {
  const std::string table = FormatPlan(*PlanOnDevice(WithRam(kAuto)));
  for (const char* part : {"memory plan of the modelled device", "staging", "while loading"}) {
    EXPECT_THAT(table, HasSubstr(part));
  }
  EXPECT_THAT(FormatPlan(*PlanOnDevice(WithRam(kAuto), 8 * kGiB, "cuda")), HasSubstr("driver"));
}

TEST(MemoryPlan, ThePlanAsATableNamesEveryPart) {
  const std::string table = FormatPlan(*Plan(WithRam(kMinimum)));
  for (const char* part : {"resident weights", "embedding rows", "kv cache", "workspace", "readers",
                           "tokenizer", "process", "expert slots", "total", "budget"}) {
    EXPECT_THAT(table, HasSubstr(part));
  }
  EXPECT_THAT(table, Not(HasSubstr("prefetch")));
  EngineOptions guessing = WithRam(kMinimum);
  guessing.prefetch = "popularity";
  EXPECT_THAT(FormatPlan(*Plan(guessing)), HasSubstr("prefetch"));
}

// Measured peaks of reading these vocabularies, less an idle program's (budget.cc).
TEST(TokenizerBytes, CoverWhatVocabulariesWereMeasuredToTake) {
  SKIP_WITHOUT_SHARED();
  const auto bytes_of = [](std::string_view name) {
    const auto gguf = GgufModel::Open(
        fmt::format("{}ggml-vocab-{}.gguf", SharedPath("data/tokenizers/vectors/"), name));
    EXPECT_TRUE(gguf.ok()) << gguf.status();
    return static_cast<double>(TokenizerBytes(*gguf)) / (1 << 20);
  };
  EXPECT_THAT(bytes_of("gpt-2"), AllOf(Gt(8.1), Lt(2 * 8.1)));
  EXPECT_THAT(bytes_of("deepseek-llm"), AllOf(Gt(16.6), Lt(2 * 16.6)));
  EXPECT_THAT(bytes_of("llama-spm"), AllOf(Gt(4.4), Lt(2 * 4.4)));
}

TEST(StepLimits, FollowFromOptionsAndModel) {
  ModelConfig config;
  config.context_max = 32768;
  EngineOptions options;
  StepLimits limits = ResolveLimits(config, options);
  EXPECT_EQ(limits.context, 4096);
  EXPECT_EQ(limits.chunk, 512);
  options.context = 100;
  limits = ResolveLimits(config, options);
  EXPECT_EQ(limits.chunk, 100);  // no prompt is longer
  options.chunk = 0;
  options.sequences_max = 3;
  options.logits_rows_max = 500;
  limits = ResolveLimits(config, options);
  EXPECT_EQ(limits.chunk, 100);
  EXPECT_EQ(limits.step_rows_max(), 102);
  EXPECT_EQ(limits.logits_rows_max(), 100);
  config.context_max = 128;
  options.context = 0;
  EXPECT_EQ(ResolveLimits(config, options).context, 512);
}

}  // namespace
}  // namespace stoker
