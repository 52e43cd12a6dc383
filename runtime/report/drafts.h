// What speculation did in a recorded run.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/trace/draft_counts.h"
#include "runtime/trace/trace.h"

namespace stoker {

struct Drafts {
  int64_t steps = 0;          // that only decoded
  int64_t steps_checked = 0;  // of those, with drafts among their rows
  int64_t checked = 0;
  int64_t right = 0;
  std::vector<DraftCount> by_place;
  double tokens_a_row = 0;  // of a step, for each sequence that decoded in it
  int64_t draft_ns = 0;
  int64_t wasted_ns = 0;
  // Median of how far the expected time of a step was from the one it took, as a share of that;
  // negative: nothing was expected.
  double prediction_error = -1;
};
Drafts AnalyzeDrafts(const Trace& trace);

}  // namespace stoker
