// A layer's mixture of experts: routing, asking for the experts, computing each with all the rows
// that chose it, and summing in an order that no arrival can change.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cache/expert_provider.h"
#include "model/blocks/step.h"
#include "model/step_observer.h"
#include "model/weights.h"

namespace stoker {

// Reads work.normed [rows, hidden], writes work.delta [rows, hidden]. Shared experts are computed,
// and `meanwhile` called, while routed ones load. Fails with the provider's error when an expert
// cannot be read.
absl::Status Mixture(const Step& step, int layer, const LayerWeights& weights,
                     ExpertProvider& provider, StepObserver* observer,
                     absl::FunctionRef<void()> meanwhile);

// The model's way of choosing; logits, top_k and outputs are the caller's.
RouterArgs RouterArgsOf(const ModelConfig& config, const float* bias);

}  // namespace stoker
