// A sequence's next row tells how far it got: one beyond the drafts that were right.
#include "runtime/trace/draft_counts.h"

#include <algorithm>
#include <map>

namespace stoker {

std::vector<DraftCount> CountDrafts(const Trace& trace) {
  struct Newest {
    int32_t position = 0;
    int drafts = 0;  // behind it
  };
  std::map<int32_t, Newest> newest;  // by sequence
  std::vector<DraftCount> counts;
  for (const TraceRow& row : trace.rows) {
    Newest& before = newest[row.sequence];
    if (row.is_draft) {
      ++before.drafts;
      continue;
    }
    const int right = row.position - before.position - 1;
    const int checked = std::min(before.drafts, right + 1);
    if (checked > static_cast<int>(counts.size())) counts.resize(static_cast<size_t>(checked));
    for (int place = 0; place < checked; ++place) {
      DraftCount& count = counts[static_cast<size_t>(place)];
      ++count.checked;
      if (place < right) ++count.right;
    }
    before = {.position = row.position};
  }
  return counts;
}

}  // namespace stoker
