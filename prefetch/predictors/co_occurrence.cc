// Fading counts of pairs of experts in consecutive layers.
#include "prefetch/predictors/co_occurrence.h"

#include <algorithm>

namespace stoker {

std::unique_ptr<Predictor> CoOccurrencePredictor::Make(const PredictorShape& shape,
                                                       absl::Span<const double> values) {
  return std::make_unique<CoOccurrencePredictor>(shape, static_cast<int>(values[0]));
}

uint64_t CoOccurrencePredictor::PlanBytes(const PredictorShape& shape, absl::Span<const double>) {
  constexpr uint64_t kPageBytes = 4096;  // large tables are whole pages
  uint64_t bytes = sizeof(CoOccurrencePredictor) + kPageBytes;
  for (size_t layer = 0; layer < shape.expert_counts.size(); ++layer) {
    const auto experts = static_cast<uint64_t>(shape.expert_counts[layer]);
    bytes += sizeof(int32_t) + 2 * sizeof(size_t) + experts * sizeof(uint16_t);
    if (layer + 1 == shape.expert_counts.size()) break;
    bytes += experts * static_cast<uint64_t>(shape.expert_counts[layer + 1]) * sizeof(uint16_t);
  }
  return bytes + static_cast<uint64_t>(kRowsMax * shape.top_k) * sizeof(int32_t);
}

CoOccurrencePredictor::CoOccurrencePredictor(const PredictorShape& shape, int uses)
    : shape_(shape), uses_max_(uses) {
  first_.reserve(shape.expert_counts.size());
  first_use_.reserve(shape.expert_counts.size());
  size_t pair_count = 0, expert_count = 0;
  for (size_t layer = 0; layer < shape.expert_counts.size(); ++layer) {
    const auto experts = static_cast<size_t>(shape.expert_counts[layer]);
    first_.push_back(pair_count);
    first_use_.push_back(expert_count);
    expert_count += experts;
    if (layer + 1 == shape.expert_counts.size()) break;
    pair_count += experts * static_cast<size_t>(shape.expert_counts[layer + 1]);
  }
  counts_.resize(pair_count, 0);
  uses_.resize(expert_count, 0);
  last_.reserve(static_cast<size_t>(kRowsMax * shape.top_k));
}

void CoOccurrencePredictor::OnStep(absl::Span<const PredictedRow>) {
  last_.clear();
  last_layer_ = -1;
}

void CoOccurrencePredictor::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) {
  const auto width = static_cast<size_t>(top_k);
  if (top_k > shape_.top_k) return;
  const size_t rows = std::min<size_t>(experts.size() / width, kRowsMax);
  experts = experts.last(rows * width);
  if (last_layer_ >= 0 && last_layer_ == layer - 1 && last_.size() == experts.size()) {
    for (size_t row = 0; row < rows; ++row) {
      Learn(last_layer_, absl::MakeConstSpan(last_).subspan(row * width, width),
            experts.subspan(row * width, width));
    }
  }
  last_.assign(experts.begin(), experts.end());
  last_layer_ = layer;
}

void CoOccurrencePredictor::Learn(int layer, absl::Span<const int32_t> from,
                                  absl::Span<const int32_t> to) {
  for (const int32_t expert : from) {
    uint16_t* const followers = Followers(layer, expert);
    for (const int32_t follower : to) ++followers[follower];
    if (++Uses(layer, expert) >= 2 * uses_max_) Halve(layer, expert);
  }
}

void CoOccurrencePredictor::Halve(int layer, int32_t from) {
  uint16_t* const followers = Followers(layer, from);
  const int32_t count = shape_.expert_counts[static_cast<size_t>(layer) + 1];
  for (int32_t i = 0; i < count; ++i) followers[i] /= 2;
  Uses(layer, from) /= 2;
}

// For a row: the mean over its experts of how often each had the follower.
void CoOccurrencePredictor::Propose(int target, absl::Span<float> confidences) {
  if (target != last_layer_ + 1 || last_.empty()) return;
  for (const int32_t from : last_) {
    const uint16_t uses = Uses(last_layer_, from);
    if (uses == 0) continue;
    const uint16_t* const followers = Followers(last_layer_, from);
    const float scale = 1.0f / (static_cast<float>(uses) * static_cast<float>(shape_.top_k));
    for (size_t i = 0; i < confidences.size(); ++i) {
      confidences[i] += scale * static_cast<float>(followers[i]);
    }
  }
}

}  // namespace stoker
