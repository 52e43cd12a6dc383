// The list of admission policies: adding one is a row here and a pair of files beside it.
#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cache/policies/always.h"
#include "cache/policies/bypass.h"
#include "cache/policies/second_hit.h"
#include "cache/policy.h"

namespace stoker {
namespace {

constexpr AdmissionRow kAdmissions[] = {
    {.name = "always",
     .description = "every expert that was loaded stays",
     .make = &AlwaysAdmission::Make},
    {.name = "second-hit",
     .description = "an expert stays if it was used before, not too long ago",
     .parameters = SecondHitAdmission::kParameters,
     .make = &SecondHitAdmission::Make},
    {.name = "bypass",
     .description = "an expert stays if it is used more than the one that would have to go",
     .parameters = BypassAdmission::kParameters,
     .make = &BypassAdmission::Make},
};

}  // namespace

absl::Span<const AdmissionRow> Admissions() { return kAdmissions; }

std::unique_ptr<AdmissionPolicy> AdmissionChoice::Make(const PolicyShape& shape) const {
  std::vector<double> defaults;
  for (const ParameterRow& parameter : row->parameters) defaults.push_back(parameter.value);
  CHECK(values.empty() || values.size() == defaults.size());
  PolicyShape whole = shape;
  const PolicyShape::Layer alone = {.first_key = 0, .expert_count = shape.key_count};
  if (shape.layers.empty()) whole.layers = {&alone, 1};
  if (shape.slot_count == 0) whole.slot_count = shape.key_count;
  return row->make(whole, values.empty() ? defaults : values);
}

absl::StatusOr<AdmissionChoice> ChooseAdmission(std::string_view name,
                                                absl::Span<const Setting> settings) {
  std::string known;
  for (const AdmissionRow& row : kAdmissions) {
    if (row.name == name) {
      ASSIGN_OR_RETURN(std::vector<double> values,
                       ChooseParameters(row.name, row.parameters, settings));
      return AdmissionChoice{.row = &row, .values = std::move(values)};
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  return absl::InvalidArgumentError(
      fmt::format("unknown admission policy \"{}\"; the known ones are: {}", name, known));
}

}  // namespace stoker
