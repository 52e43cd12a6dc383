// Windows of a text through Engine::Evaluate, one after the other.
#include "runtime/perplexity.h"

#include <cmath>

#include "base/status.h"

namespace stoker {
namespace {

// -log of a token's probability in nats.
double NegativeLogProbability(const ExpSum& of_all, float logit) {
  return of_all.max + std::log(double{of_all.sum}) - logit;
}

// The sum over positions 1 to the end of one window.
absl::StatusOr<double> EvaluateWindow(Engine& engine, absl::Span<const TokenId> window) {
  const auto vocab = static_cast<size_t>(engine.spec().config.vocab_count);
  double sum = 0;
  RETURN_IF_ERROR(engine.Evaluate(
      window, /*want_hidden=*/false, [&](const Engine::EvaluatedRows& rows) -> absl::Status {
        for (int row = 0; row < rows.rows; ++row) {
          const size_t next = static_cast<size_t>(rows.first + row) + 1;
          if (next == window.size()) break;
          const float* logits = rows.logits + static_cast<size_t>(row) * vocab;
          sum +=
              NegativeLogProbability(rows.exp_sums[row], logits[static_cast<size_t>(window[next])]);
        }
        return absl::OkStatus();
      }));
  return sum;
}

absl::Status CheckWindow(const Engine& engine, size_t id_count, int window) {
  if (window < 2 || window > engine.context()) {
    return absl::InvalidArgumentError(
        fmt::format("a perplexity window of {} ids is out of range: it must be from 2 to the "
                    "context of {}",
                    window, engine.context()));
  }
  if (id_count < static_cast<size_t>(window)) {
    return absl::InvalidArgumentError(
        fmt::format("the text has {} ids, fewer than one window of {}: give more text or choose a "
                    "smaller window (--ctx)",
                    id_count, window));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PerplexityResult> MeasurePerplexity(
    Engine& engine, absl::Span<const TokenId> ids, int window,
    const std::function<void(const PerplexityResult& so_far, int64_t windows_total)>& progress) {
  RETURN_IF_ERROR(CheckWindow(engine, ids.size(), window));
  const auto width = static_cast<size_t>(window);
  const size_t window_count = ids.size() / width;
  PerplexityResult result;
  result.ids_left_out = static_cast<int64_t>(ids.size() % width);
  double sum = 0;
  for (size_t w = 0; w < window_count; ++w) {
    ASSIGN_OR_RETURN(const double window_sum,
                     EvaluateWindow(engine, ids.subspan(w * width, width)));
    sum += window_sum;
    ++result.window_count;
    result.position_count += window - 1;
    result.mean_nats = sum / static_cast<double>(result.position_count);
    result.perplexity = std::exp(result.mean_nats);
    if (progress) progress(result, static_cast<int64_t>(window_count));
  }
  return result;
}

}  // namespace stoker
