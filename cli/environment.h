// Options from environment variables: --vram-policy is STOKER_VRAM_POLICY, --lfu.uses_per_key is
// STOKER_LFU_USES_PER_KEY.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "cli/assignment.h"

namespace stoker {

// What names the configuration file where no flag does.
inline constexpr std::string_view kConfigVariable = "STOKER_CONFIG";

// The variable of a key: STOKER_ and the key in capitals, dashes and dots as underscores.
std::string VariableOf(std::string_view key);

// The variables of ours that have a value; an empty one counts as not set.
struct Environment {
  struct Variable {
    std::string name;
    std::string value;
  };
  std::vector<Variable> variables;  // by name

  // Of a process: "NAME=value" each, ended by null, as `environ`.
  static Environment Read(const char* const* entries);

  const std::string* Find(std::string_view name) const;  // null when it is not set
  // What the variables of these keys assign.
  std::vector<Assignment> Assignments(absl::Span<const std::string> keys) const;
  // The variables that are of no key, each with the nearest that is: "STOKER_RMA (try STOKER_RAM)".
  std::vector<std::string> Unknown(absl::Span<const std::string> keys) const;
};

}  // namespace stoker
