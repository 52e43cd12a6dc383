// Fading counts of uses by layer.
#include "prefetch/predictors/popularity.h"

#include <algorithm>
#include <numeric>

namespace stoker {

std::unique_ptr<Predictor> PopularityPredictor::Make(const PredictorShape& shape,
                                                     absl::Span<const double> values) {
  return std::make_unique<PopularityPredictor>(shape, static_cast<int>(values[0]),
                                               static_cast<int>(values[1]));
}

uint64_t PopularityPredictor::PlanBytes(const PredictorShape& shape, absl::Span<const double>) {
  const uint64_t experts =
      std::accumulate(shape.expert_counts.begin(), shape.expert_counts.end(), uint64_t{0});
  return sizeof(PopularityPredictor) + shape.expert_counts.size() * sizeof(Layer) +
         experts * sizeof(uint32_t);
}

PopularityPredictor::PopularityPredictor(const PredictorShape& shape, int layers, int tokens)
    : layers_(layers), tokens_(tokens), top_k_(shape.top_k) {
  by_layer_.reserve(shape.expert_counts.size());
  size_t first = 0;
  for (const int32_t expert_count : shape.expert_counts) {
    by_layer_.push_back({.first = first, .expert_count = static_cast<size_t>(expert_count)});
    first += static_cast<size_t>(expert_count);
  }
  counts_.resize(first, 0);
}

void PopularityPredictor::OnStep(absl::Span<const PredictedRow> rows) {
  row_count_ = static_cast<int>(rows.size());
}

void PopularityPredictor::OnRouting(int layer, int /*top_k*/, absl::Span<const int32_t> experts) {
  Layer& of = by_layer_[static_cast<size_t>(layer)];
  for (const int32_t expert : experts) ++counts_[of.first + static_cast<size_t>(expert)];
  of.use_count += static_cast<uint32_t>(experts.size());
  of.tokens += row_count_;
  while (of.tokens >= tokens_) Halve(of);
}

void PopularityPredictor::Halve(Layer& layer) {
  layer.tokens -= tokens_;
  layer.use_count = 0;
  for (size_t i = layer.first; i < layer.first + layer.expert_count; ++i) {
    counts_[i] /= 2;
    layer.use_count += counts_[i];
  }
}

// The same for every row: what one row of the layer uses on average.
void PopularityPredictor::Propose(int target, absl::Span<float> confidences) {
  const Layer& of = by_layer_[static_cast<size_t>(target)];
  if (of.use_count == 0) return;
  const float scale = static_cast<float>(top_k_) / static_cast<float>(of.use_count);
  for (size_t expert = 0; expert < of.expert_count; ++expert) {
    const float share = scale * static_cast<float>(counts_[of.first + expert]);
    confidences[expert] += std::min(share, 1.0f) * static_cast<float>(row_count_);
  }
}

}  // namespace stoker
