// What the sequence's last token used, it may use again.
#pragma once

#include <memory>
#include <vector>

#include "prefetch/predictor.h"

namespace stoker {

// Remembers the experts of each layer for the last token of each sequence: right for 30 to 45 % of
// them on published models, and the next step can be guessed before this one has ended.
class PreviousTokenPredictor final : public Predictor {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "layers",
       .value = 1,
       .minimum = 1,
       .maximum = 4,
       .is_whole = true,
       .reason = "the guess is as good for every layer ahead; more layers leave more time to read, "
                 "and hold more slots meanwhile"},
  };
  static std::unique_ptr<Predictor> Make(const PredictorShape& shape,
                                         absl::Span<const double> values);
  static uint64_t PlanBytes(const PredictorShape& shape, absl::Span<const double> values);
  PreviousTokenPredictor(const PredictorShape& shape, int layers);

  void OnStep(absl::Span<const PredictedRow> rows) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) override;
  int layers_ahead() const override { return layers_; }
  int experts_per_row() const override { return shape_.top_k; }
  void Propose(int target, absl::Span<float> confidences) override;

 private:
  // Where the experts of a sequence's last token in a layer are kept, top_k of them.
  int32_t* Memory(int sequence, int layer) {
    return memory_.data() +
           (static_cast<size_t>(sequence) * shape_.expert_counts.size() + layer) * shape_.top_k;
  }

  const PredictorShape shape_;
  const int layers_;
  std::vector<int32_t> memory_;     // [sequences, layers, top_k]; -1: none
  std::vector<int32_t> last_rows_;  // of the step, by sequence; -1: takes no part
};

}  // namespace stoker
