// Options from environment variables.
#include "cli/environment.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/nearest.h"

namespace stoker {
namespace {

constexpr std::string_view kPrefix = "STOKER_";

std::vector<std::string> VariablesOf(absl::Span<const std::string> keys) {
  std::vector<std::string> names = {std::string(kConfigVariable)};
  for (const std::string& key : keys) names.push_back(VariableOf(key));
  return names;
}

}  // namespace

std::string VariableOf(std::string_view key) {
  std::string name(kPrefix);
  for (const char c : key) {
    const bool is_lower = c >= 'a' && c <= 'z';
    name += is_lower ? static_cast<char>(c - 'a' + 'A') : c == '-' || c == '.' ? '_' : c;
  }
  return name;
}

Environment Environment::Read(const char* const* entries) {
  Environment environment;
  for (; *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    const size_t equals = entry.find('=');
    if (entry.substr(0, kPrefix.size()) != kPrefix || equals == std::string_view::npos) continue;
    const std::string_view value = entry.substr(equals + 1);
    if (value.empty()) continue;
    environment.variables.push_back({std::string(entry.substr(0, equals)), std::string(value)});
  }
  std::sort(environment.variables.begin(), environment.variables.end(),
            [](const Variable& a, const Variable& b) { return a.name < b.name; });
  return environment;
}

const std::string* Environment::Find(std::string_view name) const {
  for (const Variable& variable : variables) {
    if (variable.name == name) return &variable.value;
  }
  return nullptr;
}

std::vector<Assignment> Environment::Assignments(absl::Span<const std::string> keys) const {
  std::vector<Assignment> assignments;
  for (const std::string& key : keys) {
    const std::string name = VariableOf(key);
    const std::string* value = Find(name);
    if (value == nullptr) continue;
    assignments.push_back(
        {.key = key, .values = {{.text = *value}}, .origin = {Origin::Kind::kEnvironment, name}});
  }
  return assignments;
}

std::vector<std::string> Environment::Unknown(absl::Span<const std::string> keys) const {
  const std::vector<std::string> known = VariablesOf(keys);
  std::vector<std::string> unknown;
  for (const Variable& variable : variables) {
    if (std::find(known.begin(), known.end(), variable.name) != known.end()) continue;
    const std::string nearest = Nearest(variable.name, known);
    // The prefix is common to all, so half of a name being equal says nothing yet.
    const int endings = static_cast<int>(variable.name.size() - kPrefix.size());
    const bool is_near = EditDistance(variable.name, nearest) <= std::max(2, endings / 3);
    unknown.push_back(is_near ? fmt::format("{} (try {})", variable.name, nearest) : variable.name);
  }
  return unknown;
}

}  // namespace stoker
