// How often the drafts of a recorded run were right.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/trace/trace.h"

namespace stoker {

// Of drafts at one place behind the newest token: those whose predecessors were all right, and the
// right ones of them.
struct DraftCount {
  int64_t checked = 0;
  int64_t right = 0;
};
// By place; empty when nothing was checked. What came of a sequence's last drafts is not recorded,
// so they are left out.
std::vector<DraftCount> CountDrafts(const Trace& trace);

}  // namespace stoker
