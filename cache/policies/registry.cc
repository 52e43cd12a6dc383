// The list of eviction policies: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cache/policies/auto.h"
#include "cache/policies/least_stale.h"
#include "cache/policies/lfru.h"
#include "cache/policies/lfu.h"
#include "cache/policies/lru.h"
#include "cache/policies/per_layer.h"
#include "cache/policies/s3_fifo.h"
#include "cache/policies/static_profile.h"
#include "cache/policy.h"

namespace stoker {
namespace {

constexpr std::string_view kPerLayer = "-per-layer";

constexpr PolicyRow kPolicies[] = {
    {.name = "lru",
     .description = "evicts the least recently used expert",
     .make = &LruPolicy::Make},
    {.name = "lfu",
     .description = "evicts the least frequently used expert; counts fade",
     .parameters = LfuPolicy::kParameters,
     .make = &LfuPolicy::Make},
    {.name = "lfru",
     .description = "evicts by frequency over age: between lru and lfu",
     .parameters = LfruPolicy::kParameters,
     .make = &LfruPolicy::Make},
    {.name = "least-stale",
     .description = "evicts the expert that its layer passed over most often since its last use",
     .make = &LeastStalePolicy::Make},
    {.name = "s3-fifo",
     .description = "has newcomers prove themselves in a small queue before they may stay",
     .parameters = S3FifoPolicy::kParameters,
     .make = &S3FifoPolicy::Make},
    {.name = "auto",
     .description = "plays all the others on the live stream and follows the best",
     .parameters = AutoPolicy::kParameters,
     .make = &AutoPolicy::Make},
    {.name = "static",
     .description = "evicts the expert that earlier runs used least; needs their profile",
     .needs_profile = true,
     .make = &StaticProfilePolicy::Make},
};

}  // namespace

absl::Span<const PolicyRow> Policies() { return kPolicies; }

std::vector<std::string> PolicyNames() {
  std::vector<std::string> names;
  for (const std::string_view suffix : {std::string_view(), kPerLayer}) {
    for (const PolicyRow& row : kPolicies) names.push_back(fmt::format("{}{}", row.name, suffix));
  }
  return names;
}

std::string PolicyChoice::name() const {
  return fmt::format("{}{}", row->name, is_per_layer ? kPerLayer : "");
}

std::unique_ptr<EvictionPolicy> PolicyChoice::Make(const PolicyShape& shape) const {
  CHECK(shape.profile.empty() || shape.profile.size() == static_cast<size_t>(shape.key_count));
  std::vector<double> defaults;
  for (const ParameterRow& parameter : row->parameters) defaults.push_back(parameter.value);
  CHECK(values.empty() || values.size() == defaults.size());
  PolicyShape whole = shape;
  const PolicyShape::Layer alone = {.first_key = 0, .expert_count = shape.key_count};
  if (shape.layers.empty()) whole.layers = {&alone, 1};
  if (shape.slot_count == 0) whole.slot_count = shape.key_count;
  const absl::Span<const double> chosen = values.empty() ? defaults : values;
  if (is_per_layer) return std::make_unique<PerLayerPolicy>(*row, whole, chosen);
  return row->make(whole, chosen);
}

absl::StatusOr<PolicyChoice> ChoosePolicy(std::string_view name,
                                          absl::Span<const Setting> settings) {
  const bool is_per_layer = name.ends_with(kPerLayer);
  std::string_view row_name = name;
  if (is_per_layer) row_name.remove_suffix(kPerLayer.size());
  std::string known;
  for (const PolicyRow& row : kPolicies) {
    if (row.name == row_name) {
      ASSIGN_OR_RETURN(std::vector<double> values,
                       ChooseParameters(row.name, row.parameters, settings));
      return PolicyChoice{.row = &row, .is_per_layer = is_per_layer, .values = std::move(values)};
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  return absl::InvalidArgumentError(fmt::format(
      "unknown cache policy \"{}\"; the known ones are: {}; each also layer by layer, with \"{}\" "
      "behind its name",
      name, known, kPerLayer));
}

}  // namespace stoker
