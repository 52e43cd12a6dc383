// What a row was, what the store did to an expert and why one was absent, in words: for headers and
// exports.
#pragma once

#include <string_view>

#include "absl/types/span.h"
#include "cache/expert_cache.h"
#include "cache/residency_observer.h"
#include "runtime/trace/trace.h"

namespace stoker {

std::string_view NameOf(ResidencyChange change);  // "read", "read_on_hint", ...
std::string_view NameOf(MissReason reason);       // "never_seen", "evicted", ...

std::string_view PhaseOf(const TraceRow& row);  // "prompt", "decode", "draft"

// All there are, by value.
absl::Span<const ResidencyChange> ResidencyChanges();
absl::Span<const MissReason> MissReasons();

}  // namespace stoker
