// The gated feed-forward that every row goes through: of dense layers, and of shared experts.
#pragma once

#include "model/blocks/step.h"
#include "model/weights.h"

namespace stoker {

// out = down * (silu(gate * x) .* (up * x)) for the rows of work.input, which must hold what
// FeedForwardKinds says. out: [rows, hidden], RowStride(hidden) floats apart.
void FeedForward(const Step& step, const FeedForwardWeights& weights, float* out);

}  // namespace stoker
