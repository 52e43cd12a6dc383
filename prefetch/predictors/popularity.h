// What a layer used most, it may use again.
#pragma once

#include <memory>
#include <vector>

#include "prefetch/predictor.h"

namespace stoker {

// Counts uses by layer and expert. Whenever a layer has seen `tokens` tokens since the last time,
// its counts are halved, so that what was popular fades. All in integers.
class PopularityPredictor final : public Predictor {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "layers",
       .value = 1,
       .minimum = 1,
       .maximum = 4,
       .is_whole = true,
       .reason = "the guess is as good for every layer ahead; more layers leave more time to read, "
                 "and hold more slots meanwhile"},
      {.name = "tokens",
       .value = 256,
       .minimum = 16,
       .maximum = 65536,
       .is_whole = true,
       .reason = "counts are halved every so many tokens; larger remembers longer, smaller follows "
                 "a change of topic, which published engines see within 64 to 160 tokens"},
  };
  static std::unique_ptr<Predictor> Make(const PredictorShape& shape,
                                         absl::Span<const double> values);
  static uint64_t PlanBytes(const PredictorShape& shape, absl::Span<const double> values);
  PopularityPredictor(const PredictorShape& shape, int layers, int tokens);

  void OnStep(absl::Span<const PredictedRow> rows) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) override;
  int layers_ahead() const override { return layers_; }
  int experts_per_row() const override { return top_k_; }
  void Propose(int target, absl::Span<float> confidences) override;

 private:
  struct Layer {
    size_t first = 0;  // into counts_
    size_t expert_count = 0;
    int tokens = 0;  // since counts were halved
    uint32_t use_count = 0;
  };
  void Halve(Layer& layer);

  const int layers_;
  const int tokens_;
  const int top_k_;
  int row_count_ = 0;
  std::vector<Layer> by_layer_;
  std::vector<uint32_t> counts_;
};

}  // namespace stoker
