// Causes of time as a reader tells them apart: the small ones of a step under one name, each group
// with its words and its look.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "base/time_ledger.h"

namespace stoker {

struct CauseGroup {
  std::string_view label;
  std::string_view style;  // class of page.css; those that wait are striped too
  absl::Span<const Cause> causes;
};
// From the bottom of a stack to its top: work first, then waiting.
absl::Span<const CauseGroup> CauseGroups();

int64_t TimeOf(const CauseGroup& group, const CauseTimes& causes);
std::string_view LabelOf(Cause cause);  // "waiting for the drive"

}  // namespace stoker
