// What followed this layer's experts before may follow them again.
#pragma once

#include <memory>
#include <vector>

#include "prefetch/predictor.h"

namespace stoker {

// For each expert of a layer, how often each expert of the next layer was used by the same token.
// An expert's row is halved once it has seen `uses` uses since the last time, so that what it says
// fades. Memory: two bytes for each pair of experts of consecutive layers, 7.6 MB for 58 layers of
// 256. Of a prompt the last kRowsMax rows teach. All in integers.
class CoOccurrencePredictor final : public Predictor {
 public:
  static constexpr int kRowsMax = 32;
  static constexpr ParameterRow kParameters[] = {
      {.name = "uses",
       .value = 128,
       .minimum = 8,
       .maximum = 16384,
       .is_whole = true,
       .reason = "an expert's counts are halved every so many of its uses; larger knows more of "
                 "rare pairs, smaller follows a change of topic sooner"},
  };
  static std::unique_ptr<Predictor> Make(const PredictorShape& shape,
                                         absl::Span<const double> values);
  static uint64_t PlanBytes(const PredictorShape& shape, absl::Span<const double> values);
  CoOccurrencePredictor(const PredictorShape& shape, int uses);

  void OnStep(absl::Span<const PredictedRow> rows) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) override;
  int layers_ahead() const override { return 1; }
  int experts_per_row() const override { return shape_.top_k; }
  void Propose(int target, absl::Span<float> confidences) override;

 private:
  void Learn(int layer, absl::Span<const int32_t> from, absl::Span<const int32_t> to);
  void Halve(int layer, int32_t from);
  uint16_t* Followers(int layer, int32_t from) {
    return counts_.data() + first_[static_cast<size_t>(layer)] +
           static_cast<size_t>(from) *
               static_cast<size_t>(shape_.expert_counts[static_cast<size_t>(layer) + 1]);
  }
  uint16_t& Uses(int layer, int32_t from) {
    return uses_[first_use_[static_cast<size_t>(layer)] + static_cast<size_t>(from)];
  }

  const PredictorShape shape_;
  const int uses_max_;
  std::vector<size_t> first_;      // by layer, into counts_
  std::vector<size_t> first_use_;  // by layer, into uses_
  std::vector<uint16_t> counts_;   // [layers - 1][experts of the layer, experts of the next]
  std::vector<uint16_t> uses_;     // [layers][experts]: faded as the counts are
  std::vector<int32_t> last_;      // [rows, top_k] of the layer seen last
  int last_layer_ = -1;
};

}  // namespace stoker
