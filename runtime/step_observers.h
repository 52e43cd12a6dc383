// Several listeners of one step, as one.
#pragma once

#include <algorithm>
#include <vector>

#include "model/step_observer.h"

namespace stoker {

// Passes every call on, in the order in which listeners were added. They must outlive it.
class StepObservers final : public StepObserver {
 public:
  void Add(StepObserver& observer) { observers_.push_back(&observer); }
  bool empty() const { return observers_.empty(); }

  void OnStep(absl::Span<const StepRow> rows) override {
    for (StepObserver* observer : observers_) observer->OnStep(rows);
  }
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override {
    for (StepObserver* observer : observers_) observer->OnRouting(layer, top_k, experts, weights);
  }
  int lookahead_layers(int layer) override {
    int layers = 0;
    for (StepObserver* observer : observers_) {
      layers = std::max(layers, observer->lookahead_layers(layer));
    }
    return layers;
  }
  bool wants_lookahead(int layer, int target_layer) override {
    return std::any_of(observers_.begin(), observers_.end(), [=](StepObserver* observer) {
      return observer->wants_lookahead(layer, target_layer);
    });
  }
  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> scores) override {
    for (StepObserver* observer : observers_) {
      observer->OnLookahead(layer, target_layer, count, experts, scores);
    }
  }

 private:
  std::vector<StepObserver*> observers_;
};

}  // namespace stoker
