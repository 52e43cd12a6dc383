// Carries what the model tells of its routers across to the prefetcher, which knows no model.
#pragma once

#include <vector>

#include "model/model.h"
#include "model/step_observer.h"
#include "prefetch/prefetcher.h"

namespace stoker {

// `prefetcher` must outlive it. Takes its memory once, for steps of up to `rows_max` rows.
class PrefetchObserver final : public StepObserver {
 public:
  PrefetchObserver(Prefetcher& prefetcher, int rows_max) : prefetcher_(prefetcher) {
    rows_.reserve(static_cast<size_t>(rows_max));
  }

  void OnStep(absl::Span<const StepRow> rows) override {
    rows_.clear();
    for (const StepRow& row : rows) {
      rows_.push_back({.sequence = row.sequence, .position = row.position});
    }
    prefetcher_.OnStep(rows_);
  }
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> /*weights*/) override {
    prefetcher_.OnRouting(layer, top_k, experts);
  }
  int lookahead_layers(int layer) override { return prefetcher_.lookahead_layers(layer); }
  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> /*scores*/) override {
    prefetcher_.OnLookahead(layer, target_layer, count, experts);
  }

 private:
  Prefetcher& prefetcher_;
  std::vector<PredictedRow> rows_;
};

}  // namespace stoker
