// The model's own guess: the next layers' norms and routers on the state of this one.
#pragma once

#include <memory>
#include <vector>

#include "prefetch/predictor.h"

namespace stoker {

// Passes on what the model computed, by rank: a router's first choices on the earlier state are
// right more often than its last ones.
class LookaheadPredictor final : public Predictor {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "layers",
       .value = 1,
       .minimum = 1,
       .maximum = 4,
       .is_whole = true,
       .reason = "a layer further ahead leaves more time to read, but is guessed worse by 5 to 10 "
                 "points of recall, and each costs one more router product a layer"},
      {.name = "experts",
       .value = 0,
       .minimum = 0,
       .maximum = 64,
       .is_whole = true,
       .reason = "guesses a row; 0: as many as a token uses. Twice as many find 10 to 15 points "
                 "more of what is asked for, but most of the added ones are wrong"},
  };
  static std::unique_ptr<Predictor> Make(const PredictorShape& shape,
                                         absl::Span<const double> values);
  static uint64_t PlanBytes(const PredictorShape& shape, absl::Span<const double> values);
  LookaheadPredictor(const PredictorShape& shape, int layers, int experts);

  void OnLookahead(int target, int count, absl::Span<const int32_t> experts) override;
  int lookahead_layers() const override { return layers_; }
  int experts_per_row() const override { return experts_; }
  void Propose(int target, absl::Span<float> confidences) override;

 private:
  const int layers_;
  const int experts_;  // a row
  int target_ = -1;    // of the guess at hand
  int count_ = 0;      // a row
  std::vector<int32_t> guess_;
};

}  // namespace stoker
