// The list of eviction policies: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <string>
#include <utility>

#include "cache/policies/lfu.h"
#include "cache/policies/lru.h"
#include "cache/policy.h"

namespace stoker {
namespace {

constexpr PolicyRow kPolicies[] = {
    {.name = "lru",
     .description = "evicts the least recently used expert",
     .make = &LruPolicy::Make},
    {.name = "lfu",
     .description = "evicts the least frequently used expert; counts fade",
     .make = &LfuPolicy::Make},
};

}  // namespace

absl::Span<const PolicyRow> Policies() { return kPolicies; }

std::vector<std::string> PolicyNames() {
  std::vector<std::string> names;
  for (const PolicyRow& row : kPolicies) names.emplace_back(row.name);
  return names;
}

std::string PolicyChoice::name() const { return std::string(row->name); }

std::unique_ptr<EvictionPolicy> PolicyChoice::Make(const PolicyShape& shape) const {
  return row->make(shape, values);
}

absl::StatusOr<PolicyChoice> ChoosePolicy(std::string_view name,
                                          absl::Span<const Setting> /*settings*/) {
  std::string known;
  for (const PolicyRow& row : kPolicies) {
    if (row.name == name) return PolicyChoice{.row = &row};
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown cache policy \"{}\"; the known ones are: {}", name, known));
}

}  // namespace stoker
