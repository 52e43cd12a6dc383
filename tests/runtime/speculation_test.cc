// Claims of speculation.h: drafts change how many tokens a step gives, never which.
#include "runtime/speculation.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/inspection.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/foreseeing_drafter.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kGenerated = 48;

std::string DraftModelPath() { return SourceDir() + "/models/draft-1m.q8_0.gguf"; }

// What came of all sequences: tokens, and each token's logits bit for bit.
struct Outcome {
  std::map<SequenceId, std::vector<TokenId>> tokens;
  std::map<SequenceId, std::vector<uint64_t>> hashes;
  DraftTotals drafts;
};

struct Conditions {
  std::string draft = "none";
  int length = -1;
  float temperature = 0;
  int sequences = 1;
  double budget = 0.3;
  std::string device = "cpu";
  std::string prefetch = "none";
  double repetition_penalty = 1;
  std::vector<Setting> settings;
  int generated = kGenerated;
  std::function<std::unique_ptr<Drafter>(const DrafterParts&)> make_drafter;
};

EngineOptions OptionsOf(const Conditions& conditions) {
  EngineOptions options = SmallOptions();
  options.draft = conditions.draft;
  options.draft_length = conditions.length;
  options.sequences_max = conditions.sequences;
  options.device = conditions.device;
  options.prefetch = conditions.prefetch;
  options.settings = conditions.settings;
  if (conditions.device != "cpu") options.modelled.memory_bytes = uint64_t{1} << 30;
  const absl::StatusOr<MemoryPlan> plan = PlanRun(options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const double span = static_cast<double>(plan->full_bytes - plan->minimum_bytes);
  options.ram = {.kind = MemoryBudget::Kind::kBytes,
                 .bytes = plan->minimum_bytes + static_cast<uint64_t>(conditions.budget * span)};
  return options;
}

// A prompt of its own for each sequence, each with its seed.
Outcome OutcomeOf(const Conditions& conditions) {
  Outcome outcome;
  Engine::Parts parts;
  parts.see_logits = [&](SequenceId id, absl::Span<const float> logits) {
    outcome.hashes[id].push_back(XXH3_64bits(logits.data(), logits.size() * sizeof(float)));
  };
  parts.make_drafter = conditions.make_drafter;
  if (conditions.device != "cpu") {
    parts.links = LinkRates{.host = 2e9, .host_row = 8e9, .copy_in = 2e9, .copy_out = 2e9};
  }
  const auto engine = OpenOrDie(OptionsOf(conditions), parts);
  const std::vector<TokenId> text = PromptIds(*engine);
  for (int i = 0; i < conditions.sequences; ++i) {
    SequenceRequest request =
        GreedyRequest({text.begin(), text.end() - 9 * i}, conditions.generated - i);
    request.sampling.temperature = conditions.temperature;
    request.sampling.repetition_penalty = static_cast<float>(conditions.repetition_penalty);
    request.sampling.seed = static_cast<uint64_t>(i);
    EXPECT_TRUE(engine->Add(std::move(request)).ok());
  }
  while (!engine->idle()) {
    const auto events = engine->Step();
    EXPECT_TRUE(events.ok() && engine->last_error().ok()) << engine->last_error();
    for (const TokenEvent& event : *events) outcome.tokens[event.sequence].push_back(event.token);
  }
  outcome.drafts = engine->draft_totals();
  return outcome;
}

void ExpectSame(const Outcome& outcome, const Outcome& plain, const std::string& what) {
  EXPECT_EQ(outcome.tokens, plain.tokens) << what;
  EXPECT_EQ(outcome.hashes, plain.hashes) << what;
}

std::vector<std::string> AllDrafters() { return {"ngram", DraftModelPath(), "mtp"}; }

std::vector<std::vector<TokenId>> TextsOf(const Outcome& plain) {
  const auto engine = OpenOrDie(SmallOptions());
  const std::vector<TokenId> prompt = PromptIds(*engine);
  std::vector<std::vector<TokenId>> texts;
  for (const auto& [id, tokens] : plain.tokens) {
    texts.emplace_back(prompt.begin(), prompt.end() - 9 * static_cast<ptrdiff_t>(texts.size()));
    texts.back().insert(texts.back().end(), tokens.begin(), tokens.end());
  }
  return texts;
}

TEST(Speculation, TokensAndLogitsAreThoseOfARunWithoutForEveryDrafterLengthAndTemperature) {
  for (const float temperature : {0.0f, 0.7f, 1.2f}) {
    const Outcome plain = OutcomeOf({.temperature = temperature});
    for (const std::string& draft : AllDrafters()) {
      for (const int length : {-1, 0, 1, 2, 3, 5, 8}) {
        const Outcome outcome =
            OutcomeOf({.draft = draft, .length = length, .temperature = temperature});
        ExpectSame(outcome, plain, fmt::format("{} {} {}", draft, length, temperature));
      }
    }
  }
}

TEST(Speculation, SeveralSequencesWithDraftsOfDifferentLengthsDoNotShow) {
  for (const int sequences : {2, 4}) {
    const Outcome plain = OutcomeOf({.temperature = 0.7f, .sequences = sequences});
    for (const std::string& draft : AllDrafters()) {
      for (const int length : {-1, 2, 8}) {
        ExpectSame(
            OutcomeOf(
                {.draft = draft, .length = length, .temperature = 0.7f, .sequences = sequences}),
            plain, fmt::format("{} {} {}", draft, length, sequences));
      }
    }
  }
}

TEST(Speculation, MemoryBudgetsDoNotShow) {
  const Outcome plain = OutcomeOf({});
  for (const double budget : {0.0, 0.1, 1.0}) {
    for (const std::string& draft : AllDrafters()) {
      ExpectSame(OutcomeOf({.draft = draft, .length = 4, .budget = budget}), plain, draft);
    }
  }
}

// One that begins with the last few tokens guesses other tokens at first.
TEST(Speculation, TheWindowOfADraftModelShowsInItsGuessesAndNotInTheText) {
  const Outcome plain = OutcomeOf({});
  std::map<int, uint64_t> right;
  for (const double window : {1, 7, 1000}) {
    for (const int length : {-1, 2}) {
      const Outcome outcome = OutcomeOf({.draft = DraftModelPath(),
                                         .length = length,
                                         .settings = {{"draft_model.window", window}}});
      ExpectSame(outcome, plain, std::to_string(window));
      if (length == 2) right[static_cast<int>(window)] = outcome.drafts.right;
    }
  }
  EXPECT_GT(right[1], 0u);
  EXPECT_NE(right[7], right[1000]);
}

TEST(Speculation, PenaltiesSeeTheDraftsThatWereRightAndNoOthers) {
  const Outcome plain = OutcomeOf({.temperature = 0.7f, .repetition_penalty = 1.3});
  for (const std::string& draft : AllDrafters()) {
    ExpectSame(
        OutcomeOf({.draft = draft, .length = 4, .temperature = 0.7f, .repetition_penalty = 1.3}),
        plain, draft);
  }
}

TEST(Speculation, ThatDraftsAreToldToThePrefetcherDoesNotShow) {
  for (const int sequences : {1, 3}) {
    const Outcome plain = OutcomeOf({.temperature = 0.7f, .sequences = sequences});
    for (const std::string& draft : AllDrafters()) {
      for (const int length : {-1, 0, 3}) {
        const Outcome outcome = OutcomeOf({.draft = draft,
                                           .length = length,
                                           .temperature = 0.7f,
                                           .sequences = sequences,
                                           .prefetch = "token"});
        ExpectSame(outcome, plain, fmt::format("{} {} {}", draft, length, sequences));
      }
    }
  }
}

// Counts the hints that are issued after a step's last layer was routed and before the next step
// begins. Between them only the next step's first layer can be guessed, and its tokens are not
// known: such a hint rests on a draft. Told before the engine's own observers.
class HintsBetweenSteps final : public StepObserver {
 public:
  void Watch(const Engine& engine) { engine_ = &engine; }
  uint64_t count() const { return count_; }

  void OnStep(absl::Span<const StepRow> rows) override {
    if (is_decoding_) count_ += engine_->cache_counts().hints.issued - issued_before_;
    is_decoding_ = rows.size() == 1;
  }
  void OnRouting(int layer, int, absl::Span<const int32_t>, absl::Span<const float>) override {
    if (layer == engine_->spec().experts.layers.back().layer)
      issued_before_ = engine_->cache_counts().hints.issued;
  }

 private:
  const Engine* engine_ = nullptr;
  bool is_decoding_ = false;
  uint64_t issued_before_ = 0;
  uint64_t count_ = 0;
};

uint64_t CountHintsBetweenSteps(const Conditions& conditions) {
  HintsBetweenSteps hints;
  Engine::Parts parts;
  parts.observer = &hints;
  parts.make_drafter = conditions.make_drafter;
  const auto engine = OpenOrDie(OptionsOf(conditions), parts);
  hints.Watch(*engine);
  Generate(*engine, GreedyRequest(PromptIds(*engine), kGenerated));
  EXPECT_EQ(engine->draft_totals().checked, 0u);
  return hints.count();
}

TEST(Speculation, DraftsThatNobodyChecksHaveTheNextStepsFirstLayerRead) {
  const Outcome plain = OutcomeOf({});
  const std::vector<std::vector<TokenId>> texts = TextsOf(plain);
  Conditions conditions = {.length = 0, .budget = 0.1};
  conditions.make_drafter = [&](const auto&) {
    return std::make_unique<ForeseeingDrafter>(texts, 0, 4096);
  };
  conditions.draft = "ngram";
  conditions.prefetch = "token";
  EXPECT_GT(CountHintsBetweenSteps(conditions), 5u);
  // Text that nobody foresees has no drafts, and what is drafted without a listener is not told.
  conditions.make_drafter = [](const auto&) {
    return std::make_unique<ForeseeingDrafter>(std::vector<std::vector<TokenId>>(1), 0, 4096);
  };
  EXPECT_EQ(CountHintsBetweenSteps(conditions), 0u);
}

TEST(Speculation, AModelledGpuGivesTheSame) {
  const Outcome plain = OutcomeOf({.generated = 5});
  for (const std::string& draft : AllDrafters()) {
    const Outcome outcome =
        OutcomeOf({.draft = draft, .length = 3, .device = "modelled", .generated = 5});
    ExpectSame(outcome, plain, draft);
  }
}

TEST(Speculation, ModelsThatWereTrainedToDraftAreRightAboutHalfOfTheTime) {
  for (const std::string& draft : {DraftModelPath(), std::string("mtp")}) {
    const Outcome outcome = OutcomeOf({.draft = draft, .length = 3, .generated = 120});
    ASSERT_GT(outcome.drafts.checked_at[0], 30u) << draft;
    EXPECT_GT(outcome.drafts.right_at[0] * 10, outcome.drafts.checked_at[0] * 4) << draft;
    EXPECT_LT(outcome.drafts.steps, 100u) << draft;  // of 119 tokens: several came together
  }
}

TEST(Speculation, DraftsThatAreAlwaysRightGiveAsManyTokensAStepAsAreAsked) {
  const Outcome plain = OutcomeOf({});
  const Outcome outcome =
      OutcomeOf({.draft = "ngram", .length = 5, .make_drafter = [&](const auto&) {
                   return std::make_unique<ForeseeingDrafter>(TextsOf(plain), 0, 4096);
                 }});
  ExpectSame(outcome, plain, "foreseen");
  EXPECT_EQ(outcome.drafts.right, outcome.drafts.checked);
  EXPECT_EQ(outcome.drafts.steps, 8u);  // 47 tokens after the first, six a step
}

TEST(Speculation, DraftsThatAreOftenWrongDoNotShow) {
  const Outcome plain = OutcomeOf({.temperature = 1.2f, .sequences = 3});
  for (const double wrong : {0.1, 0.5, 1.0}) {
    for (const int length : {-1, 8}) {
      const Outcome outcome =
          OutcomeOf({.draft = "ngram",
                     .length = length,
                     .temperature = 1.2f,
                     .sequences = 3,
                     .make_drafter = [&](const auto&) {
                       return std::make_unique<ForeseeingDrafter>(TextsOf(plain), wrong, 4096);
                     }});
      ExpectSame(outcome, plain, fmt::format("{} {}", wrong, length));
      if (wrong == 1.0) {
        EXPECT_EQ(outcome.drafts.right, 0u);
      }
    }
  }
}

class Failing final : public Drafter {
 public:
  absl::StatusOr<bool> Draft(absl::Span<DraftJob>) override {
    return absl::UnavailableError("no more drafts");
  }
};

TEST(Speculation, ADrafterThatFailsIsLeftOutAndTheRunGoesOn) {
  const Outcome plain = OutcomeOf({});
  const Outcome outcome =
      OutcomeOf({.draft = "ngram", .length = 4, .make_drafter = [](const auto&) {
                   return std::make_unique<Failing>();
                 }});
  ExpectSame(outcome, plain, "failing");
  EXPECT_TRUE(outcome.drafts.has_failed);
}

TEST(Speculation, TheContextsEndIsReachedExactly) {
  for (const char* draft : {"none", "ngram"}) {
    EngineOptions options =
        OptionsOf({.draft = draft, .length = draft == std::string("none") ? -1 : 8});
    options.context = 128;
    const auto engine = OpenOrDie(options);
    const SequenceOutcome outcome = Generate(*engine, GreedyRequest(PromptIds(*engine), 1000));
    EXPECT_EQ(outcome.finish, FinishReason::kContext) << draft;
    EXPECT_EQ(PromptIds(*engine).size() + outcome.tokens.size(), 129u) << draft;
  }
}

TEST(Speculation, StopStringsEndATextInTheMiddleOfDrafts) {
  const auto plain = OpenOrDie(OptionsOf({}));
  const SequenceOutcome whole = Generate(*plain, GreedyRequest(PromptIds(*plain), 40));
  ASSERT_GT(whole.text.size(), 30u);
  SequenceRequest request = GreedyRequest(PromptIds(*plain), 40);
  request.stops = {whole.text.substr(20, 5)};
  const SequenceOutcome stopped = Generate(*plain, request);
  const auto drafting = OpenOrDie(OptionsOf({.draft = DraftModelPath(), .length = 8}));
  const SequenceOutcome outcome = Generate(*drafting, request);
  EXPECT_EQ(outcome.text, stopped.text);
  EXPECT_EQ(outcome.tokens, stopped.tokens);
  EXPECT_EQ(outcome.finish, FinishReason::kStop);
  // And the slot is as good as new.
  EXPECT_EQ(Generate(*drafting, GreedyRequest(PromptIds(*drafting), 40)).tokens, whole.tokens);
}

TEST(Speculation, ItsMemoryIsInThePlan) {
  const absl::StatusOr<MemoryPlan> plain = PlanRun(OptionsOf({}));
  const absl::StatusOr<MemoryPlan> ngram = PlanRun(OptionsOf({.draft = "ngram"}));
  const absl::StatusOr<MemoryPlan> model = PlanRun(OptionsOf({.draft = DraftModelPath()}));
  ASSERT_TRUE(plain.ok() && ngram.ok() && model.ok());
  EXPECT_EQ(plain->draft_bytes, 0u);
  EXPECT_GT(ngram->draft_bytes, 0u);
  EXPECT_GT(model->draft_bytes, ngram->draft_bytes + 1'000'000);
  EXPECT_THAT(FormatPlan(*model), HasSubstr("drafts"));
}

std::string ErrorOf(const EngineOptions& options) {
  const auto engine = Engine::Open(options, nullptr);
  EXPECT_FALSE(engine.ok());
  return engine.ok() ? std::string() : std::string(MessageOf(engine.status()));
}

TEST(Speculation, AModelWithExpertsIsNoDraftModel) {
  EngineOptions options = SmallOptions();
  options.draft = ShippedModelPath();
  EXPECT_THAT(ErrorOf(options), AllOf(HasSubstr("must be dense"), HasSubstr("--draft ngram")));
}

TEST(Speculation, ADraftModelThatIsNotThereIsNamed) {
  EngineOptions options = SmallOptions();
  options.draft = "/nowhere/small.gguf";
  EXPECT_THAT(ErrorOf(options), AllOf(HasSubstr("the draft model"), HasSubstr("/nowhere")));
}

TEST(Speculation, AModelWithoutALayerForItCannotPredictSeveralTokens) {
  EngineOptions options = SmallOptions();
  options.model_path = DraftModelPath();
  options.draft = "mtp";
  EXPECT_THAT(ErrorOf(options), HasSubstr("--draft ngram"));
}

TEST(Speculation, ALengthWithoutADrafterIsAnError) {
  EngineOptions options = SmallOptions();
  options.draft_length = 3;
  EXPECT_THAT(ErrorOf(options), AllOf(HasSubstr("draft is none"), HasSubstr("--draft ngram")));
}

}  // namespace
}  // namespace stoker
