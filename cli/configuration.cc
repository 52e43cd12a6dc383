// Puts flags, environment and configuration file together.
#include "cli/configuration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "cli/config_file.h"
#include "cli/nearest.h"

namespace stoker {
namespace {

bool Contains(const std::vector<std::string>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

ConfigProblem UnknownKey(const Assignment& assignment, const std::vector<std::string>& keys) {
  const std::string nearest = Nearest(assignment.key, keys);
  return {.origin = assignment.origin,
          .message =
              fmt::format("unknown key '{}'{}", assignment.key,
                          nearest.empty() ? std::string() : fmt::format("\n  try: {}", nearest))};
}

// Takes over what no stronger source has assigned.
void Merge(std::vector<Assignment> weaker, std::vector<Assignment>& assignments) {
  for (Assignment& assignment : weaker) {
    const auto same_key = [&](const Assignment& other) { return other.key == assignment.key; };
    if (std::none_of(assignments.begin(), assignments.end(), same_key)) {
      assignments.push_back(std::move(assignment));
    }
  }
}

// What a file assigns to a command of these keys; the keys of other commands go to `others`.
absl::StatusOr<std::vector<Assignment>> FileAssignments(const std::string& path,
                                                        const std::vector<std::string>& keys,
                                                        const std::vector<std::string>& all_keys,
                                                        std::vector<std::string>& others) {
  ASSIGN_OR_RETURN(std::vector<Assignment> read, ReadConfigFile(path));
  std::vector<Assignment> assignments;
  for (Assignment& assignment : read) {
    if (Contains(keys, assignment.key)) {
      assignments.push_back(std::move(assignment));
    } else if (Contains(all_keys, assignment.key)) {
      others.push_back(fmt::format("'{}'", assignment.key));
    } else {
      return AsStatus(UnknownKey(assignment, all_keys));
    }
  }
  return assignments;
}

}  // namespace

absl::StatusOr<Configuration> Configure(const CommandRow& row, CommandLine line,
                                        const Environment& environment) {
  const std::vector<std::string> keys = KeysOf(*DeclaredCommand::Make(row).app);
  const std::vector<std::string> all_keys = KeysOfAllCommands();
  Configuration configuration;
  std::vector<Assignment> assignments = std::move(line.flags);
  Merge(environment.Assignments(keys), assignments);
  const std::vector<std::string> unknown = environment.Unknown(all_keys);
  if (!unknown.empty()) {
    configuration.notes.push_back(
        fmt::format("no option is set by the environment's {}", fmt::join(unknown, ", ")));
  }
  const std::string* from_environment = environment.Find(kConfigVariable);
  const bool is_from_variable = line.config.empty() && from_environment != nullptr;
  if (is_from_variable) line.config = *from_environment;
  if (!line.config.empty()) {
    std::vector<std::string> others;
    absl::StatusOr<std::vector<Assignment>> file =
        FileAssignments(line.config, keys, all_keys, others);
    if (!file.ok() && is_from_variable) return WithContext(file.status(), kConfigVariable);
    if (!file.ok()) return file.status();
    Merge(*std::move(file), assignments);
    if (!others.empty()) {
      configuration.notes.push_back(fmt::format("{}: {} {} not used by this command", line.config,
                                                fmt::join(others, ", "),
                                                others.size() == 1 ? "is" : "are"));
    }
  }
  Binding binding = Bind(row, std::move(assignments));
  if (!binding.problems.empty()) return AsStatus(binding.problems.front());
  configuration.declared = std::move(binding.declared);
  configuration.assignments = std::move(binding.assignments);
  return configuration;
}

absl::StatusOr<std::vector<ConfigProblem>> CheckConfigFile(const std::string& path,
                                                           const CommandRow* row) {
  ASSIGN_OR_RETURN(std::vector<Assignment> left, ReadConfigFile(path));
  std::vector<const CommandRow*> judges;
  if (row != nullptr) judges.push_back(row);
  for (const CommandRow& other : Commands()) judges.push_back(&other);
  std::vector<ConfigProblem> problems;
  for (const CommandRow* judge : judges) {
    const DeclaredCommand declared = DeclaredCommand::Make(*judge);
    if (!declared.command->is_configurable()) continue;
    const std::vector<std::string> keys = KeysOf(*declared.app);
    const auto its_own = std::stable_partition(
        left.begin(), left.end(),
        [&](const Assignment& assignment) { return !Contains(keys, assignment.key); });
    std::vector<Assignment> judged(std::make_move_iterator(its_own),
                                   std::make_move_iterator(left.end()));
    left.erase(its_own, left.end());
    const Binding binding = Bind(*judge, std::move(judged));
    problems.insert(problems.end(), binding.problems.begin(), binding.problems.end());
  }
  const std::vector<std::string> all_keys = KeysOfAllCommands();
  for (const Assignment& assignment : left) problems.push_back(UnknownKey(assignment, all_keys));
  std::stable_sort(
      problems.begin(), problems.end(),
      [](const ConfigProblem& a, const ConfigProblem& b) { return a.origin.line < b.origin.line; });
  return problems;
}

}  // namespace stoker
