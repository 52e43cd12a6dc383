// The model's guess, best ranks first.
#include "prefetch/predictors/lookahead.h"

#include <algorithm>

namespace stoker {
namespace {

int ExpertsOf(const PredictorShape& shape, double asked) {
  return asked > 0 ? static_cast<int>(asked) : shape.top_k;
}

}  // namespace

std::unique_ptr<Predictor> LookaheadPredictor::Make(const PredictorShape& shape,
                                                    absl::Span<const double> values) {
  return std::make_unique<LookaheadPredictor>(shape, static_cast<int>(values[0]),
                                              ExpertsOf(shape, values[1]));
}

uint64_t LookaheadPredictor::PlanBytes(const PredictorShape& shape,
                                       absl::Span<const double> values) {
  return sizeof(LookaheadPredictor) +
         static_cast<uint64_t>(shape.rows_max * ExpertsOf(shape, values[1])) * sizeof(int32_t);
}

LookaheadPredictor::LookaheadPredictor(const PredictorShape& shape, int layers, int experts)
    : layers_(layers), experts_(experts) {
  guess_.reserve(static_cast<size_t>(shape.rows_max * experts));
}

void LookaheadPredictor::OnLookahead(int target, int count, absl::Span<const int32_t> experts) {
  target_ = target;
  count_ = std::min(count, experts_);
  guess_.clear();
  for (size_t row = 0; row + static_cast<size_t>(count) <= experts.size();
       row += static_cast<size_t>(count)) {
    const auto best = experts.subspan(row, static_cast<size_t>(count_));
    guess_.insert(guess_.end(), best.begin(), best.end());
  }
}

void LookaheadPredictor::Propose(int target, absl::Span<float> confidences) {
  if (target != target_) return;
  for (size_t i = 0; i < guess_.size(); ++i) {
    const auto rank = static_cast<int>(i) % count_;
    confidences[static_cast<size_t>(guess_[i])] +=
        1.0f - static_cast<float>(rank) / static_cast<float>(count_);
  }
  target_ = -1;
}

}  // namespace stoker
