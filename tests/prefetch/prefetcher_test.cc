// Guesses over a whole store and a drive of set speed, on a virtual clock, with a router that is
// guessed as well or badly as a test wants.
#include "prefetch/prefetcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "io/modelled_reader.h"
#include "tests/cache/allocation_count.h"
#include "tests/cache/expert_files.h"

namespace stoker {
namespace {

constexpr int kLayers = 6;
constexpr int kExperts = 32;
constexpr int kTopK = 4;
constexpr int kTextTokens = 50;

struct RunOptions {
  std::string predictor = "lookahead";
  std::vector<Setting> settings;
  int slot_count = 64;          // of 192 experts
  int64_t compute_ns = 40'000;  // of a layer, beside its experts
  int64_t guess_ns = 0;         // of a guess
  uint64_t seed = 1;
  bool is_drawn_by_token = false;  // the same token uses the same experts
  bool is_drafted = false;         // each next token is known
};

// Steps of one sequence whose tokens draw each layer's experts anew, some more often than others.
// The text repeats its tokens every kTextTokens.
class GuessedRun {
 public:
  explicit GuessedRun(const RunOptions& options)
      : files_({.layer_count = kLayers,
                .expert_count = kExperts,
                .first_layer = 1,
                .part_bytes = {8192, 8192, 8192}}),
        options_(options),
        random_(options.seed),
        choice_(*ChoosePrefetch(options.predictor, options.settings)) {
    // An expert takes 24 us to read and 5 us to compute.
    reader_ = std::make_unique<ModelledReader>(
        ModelledReader::ModelOptions{.rate = 1e9, .alignments = {4096}}, clock_, nullptr);
    CHECK(reader_->AddFile("model").ok());
    CacheOptions cache_options = RamOnly("lru", -1);
    cache_options.verify_hashes = false;
    cache_options.addresses_only = true;
    cache_options.hint_loads_max = choice_.loads_max;
    cache_ = *ExpertCache::Create(files_.catalog(),
                                  PlanWithSlots(files_, options.slot_count, 4096, kTopK),
                                  cache_options, *reader_, clock_, nullptr);
    if (choice_.is_none()) return;
    prefetcher_ = std::make_unique<Prefetcher>(
        files_.catalog(), Prefetcher::Options{.choice = choice_, .top_k = kTopK}, *cache_);
  }

  // `right`: how many of a layer's experts the model's guess has.
  void Step(int right) {
    const PredictedRow row = {
        .sequence = 0, .position = position_, .token = position_ % kTextTokens};
    ++position_;
    if (options_.is_drawn_by_token) random_.seed(static_cast<uint64_t>(row.token));
    Draw();
    if (options_.is_drafted) {
      prefetcher_->OnDraft(
          {.sequence = 0, .position = position_, .token = position_ % kTextTokens});
    }
    cache_->BeginStep(++step_);
    if (prefetcher_ != nullptr) prefetcher_->OnStep({&row, 1});
    for (int layer = 1; layer <= kLayers; ++layer) {
      if (prefetcher_ != nullptr) prefetcher_->OnRouting(layer, kTopK, drawn_[layer]);
      CHECK(cache_->Request(layer, drawn_[layer]).ok());
      if (prefetcher_ != nullptr) LookAhead(layer, right);
      Compute();
    }
    if (prefetcher_ != nullptr) prefetcher_->EndStep();
    clock_.AdvanceNs(options_.compute_ns);
  }
  void Prompt(int rows) {
    const std::vector<PredictedRow> of(static_cast<size_t>(rows));
    prefetcher_->OnStep(of);
  }

  Prefetcher& prefetcher() const { return *prefetcher_; }
  ExpertCache& cache() { return *cache_; }
  const HintCounts& hints() const { return cache_->counts().hints; }
  int64_t now_ns() const { return clock_.NowNs(); }
  bool IsSilentThroughout() const {
    for (int index = 1; index < kLayers; ++index) {
      if (!prefetcher_->is_silent(index)) return false;
    }
    return true;
  }

 private:
  void Draw() {
    for (int layer = 1; layer <= kLayers; ++layer) {
      drawn_[layer].clear();
      while (drawn_[layer].size() < kTopK) AddUnlessThere(Skewed(), drawn_[layer]);
    }
  }
  int32_t Skewed() {
    return static_cast<int32_t>(std::min(random_() % kExperts, random_() % kExperts));
  }
  static void AddUnlessThere(int32_t expert, std::vector<int32_t>& experts) {
    if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
      experts.push_back(expert);
    }
  }

  void LookAhead(int layer, int right) {
    const int layers = prefetcher_->lookahead_layers(layer);
    for (int target = layer + 1; target <= layer + layers; ++target) {
      if (!prefetcher_->wants_lookahead(target)) continue;
      guess_.assign(drawn_[target].begin(), drawn_[target].begin() + right);
      for (int32_t wrong = 0; guess_.size() < kTopK; ++wrong) {
        const auto& of = drawn_[target];
        if (std::find(of.begin(), of.end(), wrong * 7 % kExperts) == of.end()) {
          AddUnlessThere(wrong * 7 % kExperts, guess_);
        }
      }
      clock_.AdvanceNs(options_.guess_ns);
      prefetcher_->OnLookahead(layer, target, kTopK, guess_, options_.guess_ns);
    }
  }

  // Attention comes before the next layer's experts are asked for.
  void Compute() {
    ExpertRef ref;
    while (*cache_->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne) > 0) {
      ref.Release();
      clock_.AdvanceNs(5'000);
    }
    clock_.AdvanceNs(options_.compute_ns);
  }

  VirtualClock clock_;
  const ExpertFiles files_;
  const RunOptions options_;
  std::mt19937_64 random_;
  const PrefetchChoice choice_;
  std::unique_ptr<ModelledReader> reader_;
  std::unique_ptr<ExpertCache> cache_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::map<int, std::vector<int32_t>> drawn_;  // by layer, of the running step
  std::vector<int32_t> guess_;
  int64_t step_ = 0;
  int32_t position_ = 0;
};

int64_t TimeOf(const RunOptions& options, int right, int steps) {
  GuessedRun run(options);
  for (int step = 0; step < steps; ++step) run.Step(right);
  return run.now_ns();
}

TEST(Prefetcher, GoodGuessesRemoveWaiting) {
  GuessedRun plain({.predictor = "none"});
  GuessedRun guessed({});
  for (int step = 0; step < 400; ++step) {
    plain.Step(kTopK);
    guessed.Step(kTopK);
  }
  EXPECT_LT(guessed.cache().counts().wait_ns, plain.cache().counts().wait_ns / 2);
  EXPECT_LT(guessed.now_ns(), plain.now_ns());
  EXPECT_GT(guessed.hints().used, 1000u);
  EXPECT_EQ(guessed.prefetcher().total().recall(), 1);
  EXPECT_EQ(guessed.prefetcher().total().silent_steps, 0u);
}

TEST(Prefetcher, ADraftHasTheFirstLayerReadBeforeItsStep) {
  constexpr int kSteps = 8 * kTextTokens;
  const RunOptions options = {.predictor = "token", .is_drawn_by_token = true};
  RunOptions drafted_options = options;
  drafted_options.is_drafted = true;
  GuessedRun undrafted(options);
  GuessedRun drafted(drafted_options);
  for (int step = 0; step < kSteps; ++step) {
    undrafted.Step(0);
    drafted.Step(0);
  }
  for (const GuessedRun* run : {&undrafted, &drafted}) {
    EXPECT_EQ(run->prefetcher().total().recall(), 1);
  }
  // Without drafts the step's own rows speak for its first layer, and that is late, nothing being
  // computed in between; so it soon falls silent.
  const HintCounts& late = undrafted.cache().hint_counts()[0];
  const HintCounts& early = drafted.cache().hint_counts()[0];
  EXPECT_EQ(late.used, 0u);
  EXPECT_GT(late.late, 0u);
  EXPECT_GT(early.used, 300u);
  EXPECT_LT(drafted.now_ns(), undrafted.now_ns());
  const RunOptions plain = {.predictor = "none", .is_drawn_by_token = true};
  EXPECT_LT(undrafted.now_ns(), TimeOf(plain, 0, kSteps));
}

TEST(Prefetcher, GuessesNeverCostMoreThanAFewPercent) {
  for (const char* predictor :
       {"lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    for (const int slot_count : {20, 64, 192}) {
      for (const int right : {0, 1, 2}) {
        // Layers that compute long leave the drive idle, short ones do not.
        for (const int64_t compute_ns : {1'000, 40'000}) {
          RunOptions options = {.slot_count = slot_count, .compute_ns = compute_ns};
          options.predictor = "none";
          const int64_t plain_ns = TimeOf(options, right, 600);
          options.predictor = predictor;
          EXPECT_LE(TimeOf(options, right, 600), plain_ns + plain_ns / 50)
              << predictor << ", " << slot_count << " slots, " << right << " right, compute "
              << compute_ns;
        }
      }
    }
  }
}

// Of a guess that takes up to a third of a layer.
TEST(Prefetcher, GuessesThatTakeTimeNeverCostMoreThanAFewPercent) {
  for (const int64_t guess_ns : {2'000, 8'000}) {
    for (const int slot_count : {20, 64, 160, 192}) {
      for (const int right : {1, 2, 3, 4}) {
        for (const int64_t compute_ns : {1'000, 40'000}) {
          RunOptions options = {.slot_count = slot_count, .compute_ns = compute_ns};
          options.predictor = "none";
          const int64_t plain_ns = TimeOf(options, right, 600);
          options.predictor = "lookahead";
          options.guess_ns = guess_ns;
          EXPECT_LE(TimeOf(options, right, 600), plain_ns + plain_ns / 50)
              << guess_ns << " a guess, " << slot_count << " slots, " << right << " right, compute "
              << compute_ns;
        }
      }
    }
  }
}

// A guess is made while the layer's own experts are read, and most layers wait for some: there it
// takes nothing from the step, and so does not speak against guessing.
TEST(Prefetcher, TimeThatWaitingHidesIsNotCharged) {
  RunOptions options = {.slot_count = 20, .compute_ns = 60'000, .guess_ns = 8'000};
  GuessedRun guessed(options);
  options.predictor = "none";
  GuessedRun plain(options);
  for (int step = 0; step < 300; ++step) {
    guessed.Step(2);
    plain.Step(2);
  }
  EXPECT_EQ(guessed.prefetcher().total().silent_steps, 0u);
  EXPECT_LT(guessed.now_ns(), plain.now_ns());
}

// Layers fall silent one by one: one that is, between others that are not, is passed over.
TEST(Prefetcher, ALayerThatIsSilentIsNotWanted) {
  GuessedRun run({.settings = {{.key = "lookahead.layers", .value = 2}}});
  const Prefetcher& prefetcher = run.prefetcher();
  bool is_one_passed_over = false;
  for (int step = 0; step < 200; ++step) {
    run.Step(0);
    for (int layer = 2; layer <= kLayers; ++layer) {
      EXPECT_EQ(prefetcher.wants_lookahead(layer), !prefetcher.is_silent(layer - 1));
    }
    is_one_passed_over |= prefetcher.lookahead_layers(1) == 2 && !prefetcher.wants_lookahead(2);
  }
  EXPECT_TRUE(is_one_passed_over);
}

TEST(Prefetcher, ALayerWithBadGuessesFallsSilentAndComesBack) {
  GuessedRun run({});
  int steps = 0;
  while (!run.IsSilentThroughout() && steps < 200) {
    run.Step(0);
    ++steps;
  }
  ASSERT_LT(steps, 200);
  for (int layer = 1; layer <= kLayers; ++layer) {
    EXPECT_EQ(run.prefetcher().lookahead_layers(layer), 0);
  }
  const uint64_t issued = run.hints().issued;
  for (int step = 0; step < 10; ++step) run.Step(kTopK);
  EXPECT_LE(run.hints().issued, issued + 10);  // all but those that were tried again
  const uint64_t used = run.hints().used;
  for (int step = 0; step < 300; ++step) run.Step(kTopK);
  EXPECT_GT(run.hints().used, used + 500);
  EXPECT_FALSE(run.IsSilentThroughout());
}

TEST(Prefetcher, GuessesStopWhereEverythingIsResident) {
  GuessedRun run({.slot_count = kLayers * kExperts});
  for (int step = 0; step < 1000; ++step) run.Step(kTopK);
  for (int index = 1; index < kLayers; ++index) {
    EXPECT_GT(run.prefetcher().quality()[index].silent_steps, 700u);
  }
}

TEST(Prefetcher, QualityIsMeasuredByLayer) {
  GuessedRun run({});
  for (int step = 0; step < 10; ++step) run.Step(3);
  const absl::Span<const GuessQuality> quality = run.prefetcher().quality();
  EXPECT_EQ(quality[0].guessed, 0u);  // nothing looks ahead at the first layer
  for (int index = 1; index < kLayers; ++index) {
    EXPECT_EQ(quality[index].asked, 40u);
    EXPECT_EQ(quality[index].guessed, 40u);
    EXPECT_EQ(quality[index].right, 30u);
    EXPECT_DOUBLE_EQ(quality[index].recall(), 0.75);
    EXPECT_DOUBLE_EQ(quality[index].precision(), 0.75);
  }
  struct Visitor final : CounterVisitor {
    void Counter(std::string_view, uint64_t) override {}
    void Gauge(std::string_view name, double value) override { gauges[std::string(name)] = value; }
    std::map<std::string, double> gauges;
  } visitor;
  run.prefetcher().Report(visitor);
  EXPECT_DOUBLE_EQ(visitor.gauges.at("prefetch_recall"), 0.75);
  EXPECT_DOUBLE_EQ(visitor.gauges.at("prefetch_layer_3_precision"), 0.75);
  EXPECT_GT(visitor.gauges.at("prefetch_layer_3_on_time_share"), 0);
}

TEST(Prefetcher, LooksNoFurtherThanTheLastLayer) {
  GuessedRun run({.settings = {{.key = "lookahead.layers", .value = 4}}});
  run.Step(kTopK);
  for (int layer = 1; layer <= kLayers; ++layer) {
    EXPECT_EQ(run.prefetcher().lookahead_layers(layer), std::min(4, kLayers - layer));
  }
}

TEST(Prefetcher, PromptsAreNotGuessed) {
  GuessedRun run({});
  run.Step(kTopK);
  run.Prompt(5);
  EXPECT_EQ(run.prefetcher().lookahead_layers(1), 0);
  run.Prompt(4);
  EXPECT_EQ(run.prefetcher().lookahead_layers(1), 1);
}

TEST(Prefetcher, ARunCanBeRepeated) {
  for (const char* predictor :
       {"lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    GuessedRun first({.predictor = predictor});
    GuessedRun second({.predictor = predictor});
    for (int step = 0; step < 100; ++step) {
      first.Step(2);
      second.Step(2);
      ASSERT_EQ(first.now_ns(), second.now_ns()) << predictor << ", step " << step;
    }
    EXPECT_EQ(first.hints().issued, second.hints().issued);
    EXPECT_EQ(first.cache().counts().hits, second.cache().counts().hits);
  }
}

TEST(Prefetcher, TakesWhatWasPlannedAndNothingLater) {
  const ExpertFiles files({.layer_count = 20, .expert_count = 200, .part_bytes = {64}});
  VirtualClock clock;
  ModelledReader reader({.rate = 1e9, .alignments = {64}}, clock, nullptr);
  ASSERT_TRUE(reader.AddFile("model").ok());
  const CachePlan plan = PlanWithSlots(files, 4000, 64);
  CacheOptions options = RamOnly();
  options.addresses_only = true;
  options.verify_hashes = false;
  const AllocationCount without_hints;
  auto plain = *ExpertCache::Create(files.catalog(), plan, options, reader, clock, nullptr);
  const int64_t plain_bytes = without_hints.HeldBytes();
  for (const char* predictor :
       {"lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    const Prefetcher::Options prefetch = {.choice = *ChoosePrefetch(predictor), .top_k = 8};
    options.hint_loads_max = prefetch.choice.loads_max;
    const uint64_t planned = Prefetcher::PlanBytes(files.catalog(), prefetch);
    const AllocationCount allocations;
    auto cache = *ExpertCache::Create(files.catalog(), plan, options, reader, clock, nullptr);
    Prefetcher prefetcher(files.catalog(), prefetch, *cache);
    EXPECT_LE(static_cast<uint64_t>(allocations.HeldBytes() - plain_bytes), planned) << predictor;
  }
  for (const char* predictor :
       {"lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    GuessedRun run({.predictor = predictor});
    for (int step = 0; step < 3; ++step) run.Step(2);
    const AllocationCount later;
    for (int step = 0; step < 20; ++step) run.Step(2);
    EXPECT_EQ(later.Count(), 0) << predictor;
  }
}

}  // namespace
}  // namespace stoker
