// Turns what a predictor proposes into guesses for the expert store, and lets go of those that do
// not pay.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"
#include "base/expert_catalog.h"
#include "cache/expert_cache.h"
#include "prefetch/guess_worth.h"
#include "prefetch/predictor.h"

namespace stoker {

// What the user set of prefetching: the predictor, and the parameters of the row "prefetch".
struct PrefetchChoice {
  PredictorChoice predictor;
  int loads_max = 0;  // CacheOptions::hint_loads_max; 0 without a predictor
  int rows_max = 0;   // rows of the largest step that is guessed
  GuessWorth::Options worth;

  bool is_none() const { return predictor.is_none(); }
};
// Of settings "prefetch.<name>".
absl::Span<const ParameterRow> PrefetchParameters();
// As ChoosePredictor; `settings` of other rows are passed over.
absl::StatusOr<PrefetchChoice> ChoosePrefetch(std::string_view predictor,
                                              absl::Span<const Setting> settings = {});

// How good the guesses of a layer were, in experts, over the steps that were guessed.
struct GuessQuality {
  uint64_t asked = 0;    // experts that the layer was asked for when there was a guess
  uint64_t guessed = 0;  // experts that guesses named
  uint64_t right = 0;    // of those, asked for
  uint64_t silent_steps = 0;

  double recall() const {
    return asked > 0 ? static_cast<double>(right) / static_cast<double>(asked) : 0;
  }
  double precision() const {
    return guessed > 0 ? static_cast<double>(right) / static_cast<double>(guessed) : 0;
  }
};

// Called with every step, routing and lookahead, in order, on the store's thread, before the store
// is asked for what was routed. Makes guesses while a step has few rows; a prompt's rows use most
// experts of a layer between them, so then there is nothing to guess, and guesses are withdrawn.
//
// A layer whose guesses do not pay (GuessWorth) falls silent: it is neither predicted nor guessed
// for a while, then tried again. Nothing here reads a clock: what it decides by are the store's
// counts, so a run over a virtual clock can be repeated.
//
// Needs no engine: a simulation drives it the same way. Takes its memory at construction.
class Prefetcher {
 public:
  struct Options {
    PrefetchChoice choice;  // not none
    int top_k = 0;          // experts a token uses
    int sequence_count = 1;
  };
  // `store` was created with choice.loads_max and must outlive the prefetcher.
  Prefetcher(const ExpertCatalog& catalog, const Options& options, ExpertCache& store);
  // What it takes, and what the store takes for its sake; rounded up. 0 without a predictor.
  static uint64_t PlanBytes(const ExpertCatalog& catalog, const Options& options);

  // Whether drafts are of use.
  bool wants_drafts() const { return options_.choice.predictor.row->needs_tokens; }
  // As Predictor::OnDraft.
  void OnDraft(const PredictedRow& row) { predictor_->OnDraft(row); }
  void OnStep(absl::Span<const PredictedRow> rows);
  // `layer` and `target_layer` are transformer layers, as everywhere outside.
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts);
  int lookahead_layers(int layer) const;
  bool wants_lookahead(int target_layer) const {
    return !worth_[static_cast<size_t>(Index(target_layer))].is_silent();
  }
  // `spent_ns`: what the model took to make the guess; 0 where computing takes no time.
  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   int64_t spent_ns);
  // The step's last layer is done: the drive may be idle until the next.
  void EndStep();

  // By mixture layer, in their order.
  absl::Span<const GuessQuality> quality() const { return quality_; }
  const GuessQuality& total() const { return total_; }
  bool is_silent(int layer_index) const { return worth_[layer_index].is_silent(); }
  void Report(CounterVisitor& visitor) const;

 private:
  static constexpr int kTargetsMax = 4;  // layers guessed at one layer

  struct Spent {
    int target = 0;
    int64_t ns = 0;
  };
  struct Guess {
    int count = 0;
    bool is_standing = false;
    std::array<int32_t, ExpertCache::kGuessMax> experts;  // best first
  };

  int Index(int layer) const { return index_of_layer_[static_cast<size_t>(layer)]; }
  int Later(int index, int distance) const { return (index + distance) % layer_count_; }
  void Judge(int index, absl::Span<const int32_t> experts);
  void ChargeSpent();
  void MeasureWait();
  void Propose(int target);
  void Choose(int target);

  const Options options_;
  const int layer_count_;
  ExpertCache& store_;
  std::unique_ptr<Predictor> predictor_;
  std::vector<int32_t> expert_counts_;   // by mixture layer
  std::vector<int32_t> layers_;          // transformer layer, by mixture layer
  std::vector<int32_t> index_of_layer_;  // mixture layer, by transformer layer; -1: dense
  std::vector<Guess> guesses_;           // by mixture layer
  std::vector<GuessWorth> worth_;        // by mixture layer
  std::vector<GuessQuality> quality_;    // by mixture layer
  GuessQuality total_;
  std::vector<float> confidences_;  // of one layer's experts
  std::vector<int32_t> order_;      // of one layer's experts
  std::vector<uint32_t> marks_;     // of one layer's experts
  uint32_t mark_ = 0;
  int row_count_ = 0;
  bool is_guessing_ = false;  // the running step is small enough

  // What the guesses made at the running layer took, and the store's waiting when they were made.
  std::array<Spent, kTargetsMax> spent_;
  int spent_count_ = 0;
  int64_t spent_wait_ns_ = 0;

  // What steps waited, and for how many bytes; since the start, and fading.
  int64_t wait_ns_before_ = 0;
  double wait_bytes_before_ = 0;
  double recent_wait_ns_ = 0;
  double recent_wait_bytes_ = 0;
  double wait_ns_per_byte_ = 0;
};

}  // namespace stoker
