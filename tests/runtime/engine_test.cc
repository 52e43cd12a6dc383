// Claims of engine.h, on the model that ships with the project.
#include "runtime/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>

#include "base/status.h"
#include "runtime/inspection.h"
#include "tests/runtime/shipped_model.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

std::string ErrorOf(const absl::Status& status) { return std::string(MessageOf(status)); }

TEST(Engine, TellsWhatItTook) {
  EngineOptions options = SmallOptions();
  options.isa = "scalar";
  options.io = "pread";
  uint64_t done = 0, total = 0;
  const auto engine = Engine::Open(options, [&](uint64_t done_bytes, uint64_t total_bytes) {
    EXPECT_GE(done_bytes, done);
    done = done_bytes;
    total = total_bytes;
  });
  ASSERT_TRUE(engine.ok()) << engine.status();
  const EngineInfo& info = (*engine)->info();
  EXPECT_EQ(info.isa, "scalar");
  EXPECT_EQ(info.io, "pread");
  EXPECT_EQ(info.threads, 2);
  EXPECT_LE(info.plan.total_bytes, info.plan.budget_bytes);
  EXPECT_GT(info.load_ns, 0);
  EXPECT_EQ((*engine)->context(), 256);
  EXPECT_GT(total, 0u);
  EXPECT_EQ(done, total);
}

TEST(Engine, TextIsThatOfTheTokens) {
  const auto engine = OpenOrDie(SmallOptions());
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const SequenceOutcome outcome = Generate(*engine, GreedyRequest(prompt, 40));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  ASSERT_EQ(outcome.tokens.size(), 40u);
  EXPECT_EQ(outcome.text, engine->tokenizer().Decode(outcome.tokens, false));
  EXPECT_TRUE(engine->idle());
}

TEST(Engine, ASeedGivesTheSameTextAgainAndAnotherSeedAnother) {
  const auto engine = OpenOrDie(SmallOptions());
  SequenceRequest request = GreedyRequest(PromptIds(*engine), 24);
  request.sampling = {.temperature = 0.8f, .seed = 5};
  const SequenceOutcome first = Generate(*engine, request);
  const SequenceOutcome again = Generate(*engine, request);
  EXPECT_EQ(first.tokens, again.tokens);
  request.sampling.seed = 6;
  EXPECT_NE(first.tokens, Generate(*engine, request).tokens);
}

TEST(Engine, GenerationEndsBeforeAStopString) {
  const auto engine = OpenOrDie(SmallOptions());
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const std::string whole = Generate(*engine, GreedyRequest(prompt, 40)).text;
  const std::string stop = whole.substr(whole.size() / 2, 7);
  SequenceRequest request = GreedyRequest(prompt, 40);
  request.stops = {stop};
  const SequenceOutcome outcome = Generate(*engine, request);
  EXPECT_EQ(outcome.finish, FinishReason::kStop);
  EXPECT_EQ(outcome.text, whole.substr(0, whole.find(stop)));
}

TEST(Engine, GenerationEndsWhereTheContextDoes) {
  EngineOptions options = SmallOptions();
  options.context = 16;
  const auto engine = OpenOrDie(options);
  std::vector<TokenId> prompt = PromptIds(*engine);
  prompt.resize(12);
  const SequenceOutcome outcome = Generate(*engine, GreedyRequest(prompt, 1000));
  EXPECT_EQ(outcome.finish, FinishReason::kContext);
  EXPECT_EQ(outcome.tokens.size(), 5u);  // the last is known, but has no place of its own
}

TEST(Engine, MoreSequencesThanPlacesAllFinish) {
  EngineOptions options = SmallOptions();
  options.sequences_max = 2;
  const auto engine = OpenOrDie(options);
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const SequenceOutcome alone = Generate(*engine, GreedyRequest(prompt, 6));
  std::vector<SequenceId> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(*engine->Add(GreedyRequest(prompt, 6)));
  std::map<SequenceId, SequenceOutcome> outcomes;
  while (!engine->idle()) {
    const auto events = engine->Step();
    ASSERT_TRUE(events.ok());
    for (const SequenceId id : ids) AddEvents(*events, id, outcomes[id]);
  }
  for (const SequenceId id : ids) {
    EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
    EXPECT_EQ(outcomes[id].tokens, alone.tokens);
  }
}

TEST(Engine, CancelEndsRunningAndWaitingSequencesAtTheNextStep) {
  const auto engine = OpenOrDie(SmallOptions());
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const SequenceId running = *engine->Add(GreedyRequest(prompt, 100));
  const SequenceId waiting = *engine->Add(GreedyRequest(prompt, 100));
  ASSERT_TRUE(engine->Step().ok());
  engine->Cancel(running);
  engine->Cancel(waiting);
  engine->Cancel(12345);
  const auto events = engine->Step();
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events->size(), 2u);
  for (const TokenEvent& event : *events) {
    EXPECT_EQ(event.finish, FinishReason::kCancelled);
    EXPECT_EQ(event.token, -1);
  }
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(Generate(*engine, GreedyRequest(prompt, 3)).tokens.size(), 3u);
}

TEST(Engine, AnIdleStepDoesNothing) {
  const auto engine = OpenOrDie(SmallOptions());
  const auto events = engine->Step();
  ASSERT_TRUE(events.ok());
  EXPECT_THAT(*events, IsEmpty());
}

TEST(Engine, BadRequestsAreRefusedAndLeaveNothingBehind) {
  const auto engine = OpenOrDie(SmallOptions());
  EXPECT_EQ(engine->Add(GreedyRequest({}, 1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->Add(GreedyRequest({1 << 20}, 1)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ErrorOf(engine->Add(GreedyRequest(std::vector<TokenId>(300, 1), 1)).status()),
              AllOf(HasSubstr("300"), HasSubstr("256")));
  EXPECT_TRUE(engine->idle());
}

TEST(Engine, CausesOfAStepSumToItsWallTimeAndMissesAreNamed) {
  const auto engine = OpenOrDie(SmallOptions());
  ASSERT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), 8)).ok());
  int prompt_rows = 0, decode_rows = 0, tokens = 0;
  uint64_t misses = 0, read_bytes = 0;
  while (!engine->idle()) {
    ASSERT_TRUE(engine->Step().ok());
    const StepRecord& step = engine->last_step();
    EXPECT_GT(step.wall_ns, 0);
    EXPECT_EQ(std::accumulate(step.causes.begin(), step.causes.end(), int64_t{0}), step.wall_ns);
    EXPECT_THAT(step.causes, Each(testing::Ge(0)));
    EXPECT_EQ(step.worst_misses.empty(), step.misses == 0);
    for (size_t i = 1; i < step.worst_misses.size(); ++i) {
      EXPECT_GE(step.worst_misses[i - 1].read_ns, step.worst_misses[i].read_ns);
    }
    prompt_rows += step.prompt_rows;
    decode_rows += step.decode_rows;
    tokens += step.tokens;
    misses += step.misses;
    read_bytes += step.read_bytes;
  }
  EXPECT_EQ(prompt_rows, static_cast<int>(PromptIds(*engine).size()));
  EXPECT_EQ(decode_rows, 7);
  EXPECT_EQ(tokens, 8);
  EXPECT_EQ(misses, engine->cache_counts().misses);
  EXPECT_EQ(read_bytes, engine->cache_counts().read_bytes);
  EXPECT_GT(misses, 0u);
}

// Each expert is asked for at most once a layer and step, however many rows choose it.
TEST(Engine, AStepsSystemTimeIsWhatTheProcessTookBetweenItsBordersOnly) {
  int64_t system_ns = 0;
  const auto engine =
      OpenOrDie(SmallOptions(), {.system_time_ns = [&system_ns] { return system_ns += 250; }});
  ASSERT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), 4)).ok());
  while (!engine->idle()) {
    system_ns += 1000;  // spent between two steps
    ASSERT_TRUE(engine->Step().ok());
    EXPECT_EQ(engine->last_step().system_ns, 250);
  }
}

TEST(Engine, APromptChunkReadsEachExpertOnceAtMost) {
  EngineOptions options = SmallOptions();
  options.chunk = 128;
  const auto engine = OpenOrDie(options);
  ASSERT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), 1)).ok());
  ASSERT_TRUE(engine->Step().ok());
  const StepRecord& step = engine->last_step();
  EXPECT_GT(step.misses, 0u);
  EXPECT_LE(step.hits + step.misses, static_cast<uint64_t>(engine->spec().experts.expert_count()));
}

// Logits that Evaluate gives for a position are those from which Step samples.
TEST(Engine, EvaluateAgreesWithSteps) {
  EngineOptions options = SmallOptions();
  options.logits_rows_max = 16;
  const auto engine = OpenOrDie(options);
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const SequenceOutcome outcome = Generate(*engine, GreedyRequest(prompt, 10));
  std::vector<TokenId> ids = prompt;
  ids.insert(ids.end(), outcome.tokens.begin(), outcome.tokens.end());
  std::vector<TokenId> best;
  const auto vocab = static_cast<size_t>(engine->spec().config.vocab_count);
  ASSERT_TRUE(engine
                  ->Evaluate(ids, false,
                             [&](const Engine::EvaluatedRows& rows) {
                               EXPECT_EQ(rows.first, static_cast<int>(best.size()));
                               EXPECT_LE(rows.rows, 16);
                               EXPECT_EQ(rows.hidden, nullptr);
                               for (int row = 0; row < rows.rows; ++row) {
                                 const float* logits =
                                     rows.logits + static_cast<size_t>(row) * vocab;
                                 best.push_back(static_cast<TokenId>(
                                     std::max_element(logits, logits + vocab) - logits));
                                 EXPECT_EQ(rows.exp_sums[row].max, logits[best.back()]);
                               }
                               return absl::OkStatus();
                             })
                  .ok());
  ASSERT_EQ(best.size(), ids.size());
  for (size_t i = 0; i < outcome.tokens.size(); ++i) {
    EXPECT_EQ(best[prompt.size() - 1 + i], outcome.tokens[i]);
  }
}

TEST(Engine, EvaluateNeedsPlannedMemoryAndAnIdleEngine) {
  const auto ignore = [](const Engine::EvaluatedRows&) { return absl::OkStatus(); };
  const auto without = OpenOrDie(SmallOptions());
  EXPECT_EQ(without->Evaluate({{1, 2}}, false, ignore).code(),
            absl::StatusCode::kFailedPrecondition);
  EngineOptions options = SmallOptions();
  options.logits_rows_max = 8;
  const auto engine = OpenOrDie(options);
  EXPECT_EQ(engine->Evaluate({{1, 2}}, true, ignore).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(engine->Add(GreedyRequest({1}, 2)).ok());
  EXPECT_EQ(engine->Evaluate({{1, 2}}, false, ignore).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Engine, EvaluateStopsWithTheErrorOfItsSink) {
  EngineOptions options = SmallOptions();
  options.logits_rows_max = 1;
  const auto engine = OpenOrDie(options);
  int calls = 0;
  const absl::Status status =
      engine->Evaluate({{1, 2, 3}}, false, [&](const Engine::EvaluatedRows&) {
        ++calls;
        return absl::AbortedError("enough");
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(calls, 1);
}

// A drive that can be broken and mended.
class BreakableReader final : public BlockReader {
 public:
  BreakableReader(std::unique_ptr<BlockReader> inner, const bool& is_broken)
      : inner_(std::move(inner)), is_broken_(is_broken) {}
  std::string_view name() const override { return inner_->name(); }
  absl::StatusOr<int> AddFile(const std::string& path) override { return inner_->AddFile(path); }
  size_t alignment(int file) const override { return inner_->alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return inner_->Identify(file); }
  void RegisterMemory(absl::Span<std::byte> memory) override { inner_->RegisterMemory(memory); }
  void Submit(const ReadRequest& request, ReadPriority priority) override {
    inner_->Submit(request, priority);
  }
  bool Promote(uint64_t tag) override { return inner_->Promote(tag); }
  bool Cancel(uint64_t tag) override { return inner_->Cancel(tag); }
  void Kick() override { inner_->Kick(); }
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override {
    const size_t count = inner_->Reap(completions, wait);
    if (is_broken_) {
      for (ReadCompletion& completion : completions.first(count)) completion.result = -EIO;
    }
    return count;
  }
  size_t in_flight() const override { return inner_->in_flight(); }
  std::string notice() const override { return inner_->notice(); }
  void Report(CounterVisitor& visitor) const override { inner_->Report(visitor); }

 private:
  std::unique_ptr<BlockReader> inner_;
  const bool& is_broken_;
};

TEST(Engine, ADriveThatFailsEndsTheStepsSequencesAndNotTheEngine) {
  bool is_broken = false;
  Engine::Parts parts;
  parts.wrap_reader = [&](std::unique_ptr<BlockReader> inner) {
    return std::make_unique<BreakableReader>(std::move(inner), is_broken);
  };
  EngineOptions options = SmallOptions();
  options.sequences_max = 2;
  const auto engine = OpenOrDie(options, parts);
  const std::vector<TokenId> prompt = PromptIds(*engine);
  const SequenceOutcome sound = Generate(*engine, GreedyRequest(prompt, 20));

  const SequenceId first = *engine->Add(GreedyRequest(prompt, 20));
  const SequenceId second = *engine->Add(GreedyRequest(prompt, 20));
  ASSERT_TRUE(engine->Step().ok());
  is_broken = true;
  std::vector<TokenEvent> ends;
  while (!engine->idle()) {
    const auto events = engine->Step();
    ASSERT_TRUE(events.ok()) << events.status();
    for (const TokenEvent& event : *events) {
      if (event.finish != FinishReason::kNone) ends.push_back(event);
    }
  }
  ASSERT_EQ(ends.size(), 2u);
  EXPECT_EQ(ends[0].sequence, first);
  EXPECT_EQ(ends[1].sequence, second);
  for (const TokenEvent& event : ends) EXPECT_EQ(event.finish, FinishReason::kFailed);
  EXPECT_THAT(ErrorOf(engine->last_error()), AllOf(HasSubstr("layer"), HasSubstr("expert")));

  is_broken = false;
  EXPECT_EQ(Generate(*engine, GreedyRequest(prompt, 20)).tokens, sound.tokens);
  EXPECT_TRUE(engine->last_error().ok());
}

TEST(Engine, AModelledDriveTakesItsTimeAndChangesNothingElse) {
  EngineOptions options = SmallOptions();
  const auto fast = OpenOrDie(options);
  options.modelled_drive = {.rate = 5e8, .latency_us = 20};
  const auto slow = OpenOrDie(options);
  ASSERT_FALSE(slow->info().notices.empty());
  EXPECT_THAT(slow->info().notices, testing::Contains(HasSubstr("500.00 MB/s and 20 us")));
  const std::vector<TokenId> prompt = PromptIds(*fast);
  EXPECT_EQ(Generate(*slow, GreedyRequest(prompt, 8)).tokens,
            Generate(*fast, GreedyRequest(prompt, 8)).tokens);
  const StepRecord& step = slow->last_step();
  ASSERT_GT(step.read_bytes, 0u);
  EXPECT_GE(static_cast<double>(step.drive_busy_ns), static_cast<double>(step.read_bytes) / 0.5);
}

// A step's record says what came of guesses, and the records add up to the store's counts.
TEST(Engine, StepsTellWhatCameOfGuesses) {
  EngineOptions options = SmallOptions();
  const absl::StatusOr<MemoryPlan> plan = PlanRun(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  options.ram = {.kind = MemoryBudget::Kind::kBytes,
                 .bytes = plan->minimum_bytes + (plan->full_bytes - plan->minimum_bytes) / 3};
  options.prefetch = "lookahead";
  const auto engine = OpenOrDie(options);
  ASSERT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), 40)).ok());
  HintCounts sum;
  int64_t guessing_ns = 0;
  while (!engine->idle()) {
    ASSERT_TRUE(engine->Step().ok());
    const StepRecord& step = engine->last_step();
    sum = sum + step.hints;
    if (step.prompt_rows > 0) {
      EXPECT_EQ(step.hints.issued, 0u);
    }
    guessing_ns += step.causes[static_cast<size_t>(Cause::kPrefetch)];
  }
  EXPECT_GT(sum.issued, 0u);
  EXPECT_GT(sum.used + sum.late, 0u);
  EXPECT_GT(guessing_ns, 0);
  const HintCounts& total = engine->cache_counts().hints;
  EXPECT_EQ(sum.issued, total.issued);
  EXPECT_EQ(sum.used, total.used);
  EXPECT_EQ(sum.wasted_bytes, total.wasted_bytes);
  struct Visitor final : CounterVisitor {
    void Counter(std::string_view, uint64_t) override {}
    void Gauge(std::string_view name, double value) override {
      if (name == "prefetch_recall") recall = value;
    }
    double recall = 0;
  } visitor;
  engine->Report(visitor);
  EXPECT_GT(visitor.recall, 0.3);  // a trained model's routers
  EXPECT_LE(visitor.recall, 1);
}

TEST(Engine, ADenseModelSaysThatItHasNothingToGuess) {
  SKIP_WITHOUT_SHARED();
  EngineOptions options = SmallOptions();
  options.model_path = SharedPath("data/models/stories260K.gguf");
  options.prefetch = "popularity";
  EXPECT_THAT(OpenOrDie(options)->info().notices,
              testing::Contains(HasSubstr("no experts to guess")));
}

// 200 greedy steps of a trained dense model, from BOS, against a text from another implementation.
TEST(Engine, DenseModelTellsTheExpectedStory) {
  SKIP_WITHOUT_SHARED();
  EngineOptions options = SmallOptions();
  options.model_path = SharedPath("data/models/stories260K.gguf");
  options.kv = "f32";
  const auto engine = OpenOrDie(options);
  SequenceRequest request = GreedyRequest({engine->tokenizer().bos()}, 200);
  std::ifstream file(SharedPath("data/models/stories260K.greedy200.expected.txt"));
  std::string expected((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (expected.ends_with('\n')) expected.pop_back();
  std::string text = Generate(*engine, request).text;
  while (text.ends_with('\n')) text.pop_back();
  EXPECT_EQ(text, expected);
}

absl::Status OpenError(const EngineOptions& options) {
  return Engine::Open(options, nullptr).status();
}

TEST(Engine, OptionsOutOfRangeAreNamed) {
  EngineOptions options = SmallOptions();
  options.policy = "newest";
  EXPECT_THAT(ErrorOf(OpenError(options)), AllOf(HasSubstr("policy"), HasSubstr("lru")));
}

TEST(Engine, AContextAboveTheModelsOwnIsSaid) {
  EngineOptions options = SmallOptions();
  options.context = 4096;
  const auto engine = OpenOrDie(options);
  EXPECT_EQ(engine->context(), 4096);
  EXPECT_THAT(engine->info().notices, testing::Contains(HasSubstr("2048")));
}

TEST(Engine, MissingAndForeignFilesAreToldApart) {
  EngineOptions options = SmallOptions();
  options.model_path = "/nowhere/model.gguf";
  EXPECT_EQ(OpenError(options).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(ErrorOf(OpenError(options)), HasSubstr("/nowhere/model.gguf"));
  options.model_path = SourceDir() + "/CMakeLists.txt";
  EXPECT_EQ(OpenError(options).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Engine, AHalfDownloadedModelIsAnErrorNamingTheFile) {
  const std::string path = testing::TempDir() + "/half.gguf";
  std::filesystem::copy_file(ShippedModelPath(), path,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EngineOptions options = SmallOptions();
  options.model_path = path;
  EXPECT_EQ(OpenError(options).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(ErrorOf(OpenError(options)), HasSubstr("half.gguf"));
  std::filesystem::remove(path);
}

TEST(Engine, ABudgetBelowTheMinimumSaysTheMinimum) {
  EngineOptions options = SmallOptions();
  options.ram = {.kind = MemoryBudget::Kind::kBytes, .bytes = 1 << 20};
  const absl::Status status = OpenError(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const uint64_t minimum = OpenOrDie(SmallOptions())->info().plan.minimum_bytes;
  EXPECT_THAT(ErrorOf(status), HasSubstr(std::to_string(minimum)));
}

}  // namespace
}  // namespace stoker
