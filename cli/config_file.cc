// A TOML file as a list of what it assigns: nested tables are keys with dots.
#include "cli/config_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "cli/flags.h"

namespace stoker {
namespace {

using Kind = AssignedValue::Kind;

std::string At(const std::string& path, uint32_t line) { return fmt::format("{}:{}", path, line); }

AssignedValue ValueOf(const toml::node& node) {
  if (const auto* boolean = node.as_boolean()) {
    return {Kind::kBoolean, **boolean ? "true" : "false"};
  }
  if (const auto* integer = node.as_integer())
    return {Kind::kInteger, fmt::format("{}", **integer)};
  if (const auto* real = node.as_floating_point()) return {Kind::kReal, fmt::format("{}", **real)};
  if (const auto* text = node.as_string()) return {Kind::kText, **text};
  return {Kind::kOther, ""};  // a date, or a table or list within a list
}

void Collect(const toml::table& table, const std::string& prefix, const std::string& path,
             std::vector<Assignment>& assignments) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    if (const toml::table* inner = node.as_table()) {
      Collect(*inner, key + ".", path, assignments);
      continue;
    }
    const uint32_t line = name.source().begin.line;
    Assignment assignment = {
        .key = key, .origin = {Origin::Kind::kFile, At(path, line), static_cast<int>(line)}};
    if (const toml::array* array = node.as_array()) {
      assignment.is_list = true;
      for (const toml::node& element : *array) assignment.values.push_back(ValueOf(element));
    } else {
      assignment.values.push_back(ValueOf(node));
    }
    assignments.push_back(std::move(assignment));
  }
}

}  // namespace

absl::StatusOr<std::vector<Assignment>> ReadConfigFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<Assignment> assignments;
  try {
    Collect(toml::parse(text, path), "", path, assignments);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", At(path, error.source().begin.line), error.description()));
  }
  std::stable_sort(
      assignments.begin(), assignments.end(),
      [](const Assignment& a, const Assignment& b) { return a.origin.line < b.origin.line; });
  return assignments;
}

}  // namespace stoker
