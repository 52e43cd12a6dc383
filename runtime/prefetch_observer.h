// Carries what the model tells of its routers across to the prefetcher, which knows no model.
#pragma once

#include <vector>

#include "base/clock.h"
#include "model/model.h"
#include "model/step_observer.h"
#include "prefetch/prefetcher.h"

namespace stoker {

// `prefetcher` and `clock` must outlive it. Takes its memory once, for steps of up to `rows_max`
// rows. Measures what a guess takes the model: from the question whether to make it, or from the
// guess before it, to the guess.
class PrefetchObserver final : public StepObserver {
 public:
  PrefetchObserver(Prefetcher& prefetcher, const Clock& clock, int rows_max)
      : prefetcher_(prefetcher), clock_(clock) {
    rows_.reserve(static_cast<size_t>(rows_max));
  }

  void OnStep(absl::Span<const StepRow> rows) override {
    rows_.clear();
    for (const StepRow& row : rows) {
      rows_.push_back({.sequence = row.sequence, .position = row.position, .token = row.token});
    }
    prefetcher_.OnStep(rows_);
  }
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> /*weights*/) override {
    prefetcher_.OnRouting(layer, top_k, experts);
  }
  int lookahead_layers(int layer) override {
    const int layers = prefetcher_.lookahead_layers(layer);
    if (layers > 0) began_ns_ = clock_.NowNs();
    return layers;
  }
  bool wants_lookahead(int /*layer*/, int target_layer) override {
    return prefetcher_.wants_lookahead(target_layer);
  }
  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> /*scores*/) override {
    prefetcher_.OnLookahead(layer, target_layer, count, experts, clock_.NowNs() - began_ns_);
    began_ns_ = clock_.NowNs();
  }

 private:
  Prefetcher& prefetcher_;
  const Clock& clock_;
  int64_t began_ns_ = 0;
  std::vector<PredictedRow> rows_;
};

}  // namespace stoker
