// Flags for the numbers that policies, admissions and predictors are tuned by, made from their
// registries.
#include "cli/parameter_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

namespace stoker {
namespace {

std::string RangeText(const ParameterRow& parameter) {
  return fmt::format("{}from {} to {}", parameter.is_whole ? "a whole number " : "",
                     parameter.minimum, parameter.maximum);
}

bool IsAllowed(const ParameterRow& parameter, double value) {
  const bool is_in_range = value >= parameter.minimum && value <= parameter.maximum;  // no NaN is
  return is_in_range && (!parameter.is_whole || value == std::floor(value));
}

double ParseValue(const std::string& key, const ParameterRow& parameter, const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end && IsAllowed(parameter, value)) return value;
  // CLI11 reports what is thrown here as it reports its own refusals.
  throw CLI::ValidationError(fmt::format("{} is {}, which is not allowed: it must be {} ({})", key,
                                         text, RangeText(parameter), parameter.reason));
}

void Set(std::vector<Setting>& settings, const std::string& key, double value) {
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const Setting& setting) { return setting.key == key; });
  if (found != settings.end()) {
    found->value = value;
  } else {
    settings.push_back({.key = key, .value = value});
  }
}

void DeclareParameter(CLI::App& app, const TunableRow& row, const ParameterRow& parameter,
                      std::vector<Setting>& settings) {
  const std::string key = fmt::format("{}.{}", row.name, parameter.name);
  app.add_option(
         "--" + key, CLI::callback_t([&settings, &parameter, key](const CLI::results_t& results) {
           Set(settings, key, ParseValue(key, parameter, results.back()));
           return true;
         }),
         fmt::format("{} ({} to {})", parameter.reason, parameter.minimum, parameter.maximum))
      ->type_name(parameter.is_whole ? "INT" : "FLOAT")
      ->default_str(fmt::format("{}", parameter.value))
      ->group(fmt::format("{}: {}", row.name, row.description));
}

}  // namespace

void DeclareParameterFlags(CLI::App& app, absl::Span<const TunableRow> rows,
                           std::vector<Setting>& settings) {
  for (const TunableRow& row : rows) {
    for (const ParameterRow& parameter : row.parameters) {
      DeclareParameter(app, row, parameter, settings);
    }
  }
}

}  // namespace stoker
