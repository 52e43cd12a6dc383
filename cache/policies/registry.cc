// The list of eviction policies: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <string>

#include "cache/policies/lfu.h"
#include "cache/policies/lru.h"
#include "cache/policy.h"

namespace stoker {
namespace {

constexpr PolicyRow kPolicies[] = {
    {"lru", "evicts the least recently used expert", &LruPolicy::Make},
    {"lfu", "evicts the least frequently used expert; counts fade", &LfuPolicy::Make},
};

}  // namespace

absl::Span<const PolicyRow> Policies() { return kPolicies; }

absl::StatusOr<const PolicyRow*> FindPolicy(std::string_view name) {
  std::string known;
  for (const PolicyRow& row : kPolicies) {
    if (row.name == name) return &row;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown cache policy \"{}\"; the known ones are: {}", name, known));
}

}  // namespace stoker
