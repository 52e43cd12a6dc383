// Sums over the steps that only decoded.
#include "runtime/report/drafts.h"

#include <algorithm>
#include <cmath>

namespace stoker {
namespace {

bool HasPrompt(const Trace& trace, const TraceStep& step) {
  const auto first = trace.rows.begin() + step.rows.first;
  return std::any_of(first, first + step.rows.count,
                     [](const TraceRow& row) { return row.is_prompt; });
}

}  // namespace

Drafts AnalyzeDrafts(const Trace& trace) {
  Drafts drafts = {.by_place = CountDrafts(trace)};
  int64_t tokens = 0, sequences = 0;
  std::vector<double> errors;
  for (const TraceStep& step : trace.steps) {
    if (HasPrompt(trace, step)) continue;
    const int64_t draft_ns = step.causes[static_cast<size_t>(Cause::kDraft)];
    ++drafts.steps;
    drafts.steps_checked += step.draft_rows > 0 ? 1 : 0;
    drafts.checked += step.draft_rows;
    drafts.right += step.drafts_right;
    drafts.draft_ns += draft_ns;
    drafts.wasted_ns += step.wasted_ns;
    sequences += step.rows.count - step.draft_rows;
    tokens += step.rows.count - step.draft_rows + step.drafts_right;
    if (step.predicted_ns > 0 && step.wall_ns > draft_ns) {
      errors.push_back(std::fabs(static_cast<double>(step.predicted_ns) /
                                     static_cast<double>(step.wall_ns - draft_ns) -
                                 1));
    }
  }
  if (sequences > 0) {
    drafts.tokens_a_row = static_cast<double>(tokens) / static_cast<double>(sequences);
  }
  if (!errors.empty()) {
    const auto middle = errors.begin() + static_cast<ptrdiff_t>(errors.size() / 2);
    std::nth_element(errors.begin(), middle, errors.end());
    drafts.prediction_error = *middle;
  }
  return drafts;
}

}  // namespace stoker
