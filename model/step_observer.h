// How a model tells what its routers decided, without knowing who listens.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace stoker {

class StepObserver {
 public:
  virtual ~StepObserver() = default;
  // One layer's decisions for all rows of a step: experts and weights are [rows, top_k], best
  // first.
  virtual void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                         absl::Span<const float> weights) = 0;
};

}  // namespace stoker
