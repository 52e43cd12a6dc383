// "Did you mean": the known name nearest to a mistyped one.
#pragma once

#include <string>
#include <string_view>

#include "absl/types/span.h"

namespace stoker {

// The least number of single-character insertions, deletions and replacements that turn a into b
// (Levenshtein).
int EditDistance(std::string_view a, std::string_view b);

// The candidate with the least distance, the first of them on a tie; empty when there is none or
// when even that differs in more than half of its letters.
std::string Nearest(std::string_view name, absl::Span<const std::string> candidates);

}  // namespace stoker
