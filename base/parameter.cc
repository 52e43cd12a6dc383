// Checks what the user set against what a part can be tuned by.
#include "base/parameter.h"

#include <fmt/format.h>

#include <cmath>

#include "base/status.h"

namespace stoker {
namespace {

absl::Status CheckValue(const Setting& setting, const ParameterRow& row) {
  const bool is_in_range = setting.value >= row.minimum && setting.value <= row.maximum;
  const bool is_whole_enough = !row.is_whole || setting.value == std::floor(setting.value);
  if (is_in_range && is_whole_enough) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} is {}; it is a {}number from {} to {} ({} unless set): {}", setting.key, setting.value,
      row.is_whole ? "whole " : "", row.minimum, row.maximum, row.value, row.reason));
}

}  // namespace

absl::StatusOr<std::vector<double>> ChooseParameters(std::string_view row,
                                                     absl::Span<const ParameterRow> parameters,
                                                     absl::Span<const Setting> settings) {
  std::vector<double> values;
  std::string known;
  for (const ParameterRow& parameter : parameters) {
    values.push_back(parameter.value);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", parameter.name);
  }
  for (const Setting& setting : settings) {
    const std::string_view key = setting.key;
    const size_t dot = key.find('.');
    if (dot == std::string_view::npos || key.substr(0, dot) != row) continue;
    size_t at = 0;
    while (at < parameters.size() && parameters[at].name != key.substr(dot + 1)) ++at;
    if (at == parameters.size()) {
      return absl::InvalidArgumentError(fmt::format("\"{}\" has no parameter \"{}\"; it has {}",
                                                    row, key.substr(dot + 1),
                                                    known.empty() ? "none" : known));
    }
    RETURN_IF_ERROR(CheckValue(setting, parameters[at]));
    values[at] = setting.value;
  }
  return values;
}

}  // namespace stoker
