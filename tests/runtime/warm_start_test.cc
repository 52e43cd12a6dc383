// A run that starts with what earlier ones used, on the model that ships with the project.
#include "runtime/warm_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/status.h"
#include "runtime/model_identity.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class WarmStartTest : public ::testing::Test {
 protected:
  EngineOptions Options() {
    EngineOptions options = SmallOptions();
    options.ram = {.kind = MemoryBudget::Kind::kBytes, .bytes = uint64_t{30} << 20};
    options.profile = path_;
    return options;
  }
  static SequenceOutcome Run(Engine& engine, int tokens = 24) {
    return Generate(engine, GreedyRequest(PromptIds(engine), tokens));
  }
  UsageProfile Read() {
    const GgufModel gguf = GgufModel::Open(ShippedModelPath()).value();
    const ModelSpec spec = ModelSpec::Read(gguf).value();
    return ReadProfile(path_, IdentifyModel(gguf), spec.experts.expert_count());
  }

  TemporaryDirectory folder_;
  const std::string path_ = folder_.File("a.profile");
};

TEST_F(WarmStartTest, ARunLeavesAProfileOfEachUse) {
  const auto engine = OpenOrDie(Options());
  EXPECT_THAT(engine->info().notices, Not(Contains(HasSubstr("profile"))));
  const SequenceOutcome outcome = Run(*engine);
  const UsageProfile profile = Read();  // saved when it became idle
  ASSERT_FALSE(profile.uses.empty()) << profile.notice;
  const ModelConfig& config = engine->spec().config;
  uint64_t uses = 0;
  for (const uint32_t use : profile.uses) uses += use;
  const size_t rows = PromptIds(*engine).size() + outcome.tokens.size() - 1;
  EXPECT_EQ(uses, rows * config.experts_used * engine->spec().experts.layers.size() * kUsageUnit);
}

TEST_F(WarmStartTest, TheNextRunReadsTheHottestAheadAndSaysTheSame) {
  const SequenceOutcome cold = Run(*OpenOrDie(Options()));
  const auto engine = OpenOrDie(Options());
  const uint64_t begun = engine->cache_counts().warm.issued;
  EXPECT_EQ(begun, static_cast<uint64_t>(kWarmLoadsMax));  // before anything was asked
  EXPECT_EQ(Run(*engine).tokens, cold.tokens);
  const CacheCounts& counts = engine->cache_counts();
  EXPECT_GT(counts.warm.issued, begun);
  EXPECT_GT(counts.warm.used + counts.warm.late, 0u);
  EXPECT_EQ(counts.hints.issued, 0u);  // guesses are another matter
}

// Although nothing is known of earlier runs.
TEST_F(WarmStartTest, WhereEverythingFitsEverythingIsRead) {
  EngineOptions options = Options();
  options.ram = {.kind = MemoryBudget::Kind::kAuto};
  const auto engine = OpenOrDie(options);
  const auto expert_count = static_cast<int64_t>(engine->spec().experts.expert_count());
  constexpr int kPollsMax = 50'000'000;  // the drive is a real one
  for (int i = 0; i < kPollsMax && engine->cache_counts().resident < expert_count; ++i) {
    ASSERT_TRUE(engine->Step().ok());  // without sequences: does nothing but look at the drive
  }
  EXPECT_EQ(engine->cache_counts().warm.issued, static_cast<uint64_t>(expert_count));
  Run(*engine);
  EXPECT_EQ(engine->cache_counts().misses, 0u);
}

TEST_F(WarmStartTest, WithoutAProfileNothingIsReadAhead) {
  EngineOptions options = Options();
  options.ram = {.kind = MemoryBudget::Kind::kAuto};
  options.profile = "none";
  const auto engine = OpenOrDie(options);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(engine->Step().ok());
  EXPECT_EQ(engine->cache_counts().resident, 0);
}

TEST_F(WarmStartTest, TheMemoryOfItIsPlanned) {
  EngineOptions without = Options();
  without.profile = "none";
  EXPECT_EQ(OpenOrDie(without)->info().plan.profile_bytes, 0u);
  const auto engine = OpenOrDie(Options());
  EXPECT_EQ(engine->info().plan.profile_bytes, UsagePlanBytes(engine->spec().experts));
  EXPECT_LE(engine->info().plan.total_bytes, engine->info().plan.budget_bytes);
}

TEST_F(WarmStartTest, ATornProfileIsANoticeAndIsReplaced) {
  const SequenceOutcome cold = Run(*OpenOrDie(Options()));
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  const auto engine = OpenOrDie(Options());
  EXPECT_THAT(engine->info().notices, Contains(AllOf(HasSubstr(path_), HasSubstr("is ignored"))));
  EXPECT_EQ(engine->cache_counts().warm.issued, 0u);
  EXPECT_EQ(Run(*engine).tokens, cold.tokens);
  EXPECT_FALSE(Read().uses.empty());
}

TEST_F(WarmStartTest, AForeignProfileIsANoticeAndIsLeftAlone) {
  const std::string foreign = EncodeProfile(1, std::vector<uint32_t>(10, 1));
  std::ofstream(path_, std::ios::binary) << foreign;
  const auto engine = OpenOrDie(Options());
  EXPECT_THAT(engine->info().notices, Contains(HasSubstr("another model")));
  Run(*engine);
  std::ifstream file(path_, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), foreign);
}

TEST_F(WarmStartTest, APlaceThatCannotBeWrittenToIsAnError) {
  EngineOptions options = Options();
  options.profile = folder_.File("no/such/a.profile");
  const auto engine = Engine::Open(options, nullptr);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(engine.status())), HasSubstr("try: --profile"));
}

TEST_F(WarmStartTest, AProfileThatCannotBeSavedIsSaidAndTheRunGoesOn) {
  std::filesystem::create_directory(folder_.File("gone"));
  EngineOptions options = Options();
  options.profile = folder_.File("gone/a.profile");
  const auto engine = OpenOrDie(options);
  std::filesystem::remove(folder_.File("gone"));
  EXPECT_EQ(Run(*engine).tokens.size(), 24u);
  EXPECT_THAT(engine->info().late_notices, Contains(HasSubstr("the usage profile is not saved")));
}

}  // namespace
}  // namespace stoker
