// Guessing what the next layers' routers will choose, from the state before this layer's mixture.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "model/blocks/step.h"
#include "model/step_observer.h"
#include "model/weights.h"

namespace stoker {

// Puts work.residual [rows, hidden], as it is after attention at `layer`, through the feed-forward
// norms and the routers of the next mixture layers, as many as the observer asks for, and tells it
// what they would choose, a row's best first. The residual stream changes little from one layer to
// the next, which is why this guesses right more often than not (Fate, arXiv 2502.12224; Eliseev
// and Mazur, arXiv 2312.17238).
//
// Steps of more rows than the workspace has room for are left alone: a prompt's rows use most of a
// layer's experts between them, and there is nothing to guess.
void LookAhead(const Step& step, int layer, absl::Span<const LayerWeights> layers,
               StepObserver& observer);

}  // namespace stoker
