// How well a model predicts a text: the number that compares engines and formats.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/engine.h"

namespace stoker {

struct PerplexityResult {
  double perplexity = 0;       // exp of the mean
  double mean_nats = 0;        // mean of -log p(token) over the positions
  int64_t position_count = 0;  // windows * (window - 1)
  int64_t window_count = 0;
  int64_t ids_left_out = 0;  // the incomplete window at the end
};

// Cuts `ids` into consecutive windows of `window` ids, each a sequence of its own, and takes the
// mean of -log p over positions 1 to window - 1 of every window; an incomplete last window is left
// out. Probabilities by Ops::log_sum_exp, logarithms in F64. No BOS is added: what is in `ids` is
// what counts. `progress` (may be empty) is called after each window with the result so far and the
// number of windows in all. InvalidArgument: fewer ids than one window, or a window below 2 or
// above the engine's context; else the error of Engine::Evaluate.
absl::StatusOr<PerplexityResult> MeasurePerplexity(
    Engine& engine, absl::Span<const TokenId> ids, int window,
    const std::function<void(const PerplexityResult& so_far, int64_t windows_total)>& progress);

}  // namespace stoker
