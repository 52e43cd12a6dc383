// What the multi-token-prediction layer starts from.
#pragma once

#include "absl/types/span.h"
#include "model/blocks/step.h"
#include "model/weights.h"

namespace stoker {

// Turns work.residual [rows, hidden] from the embeddings of the rows' tokens into their join with
// the rows' states: join * [norm(embedding), norm(state)] (DeepSeek-V3, arXiv:2412.19437,
// section 2.2).
void JoinStates(const Step& step, const MtpWeights& weights, absl::Span<const MtpRow> rows);

}  // namespace stoker
