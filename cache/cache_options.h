// Checks that a store's options and its plan go together.
#pragma once

#include "absl/status/status.h"
#include "cache/expert_cache.h"

namespace stoker {

// InvalidArgument: tiers that no store has, a plan beyond their budgets, a rule of placement or
// admission that they cannot follow.
absl::Status CheckCacheOptions(const CacheOptions& options, const CachePlan& plan);

}  // namespace stoker
