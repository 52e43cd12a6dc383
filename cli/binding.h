// A command with values assigned to its options, and what is wrong with those that could not be.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/assignment.h"
#include "cli/command_line.h"

namespace stoker {

// A value that an option cannot have, or that does not go with the others.
struct ConfigProblem {
  Origin origin;
  std::string key;
  std::string message;
};
// "stoker.toml:3: 'threads': ...", "STOKER_THREADS: ..."; a flag is named by the message itself.
std::string Format(const ConfigProblem& problem);
absl::Status AsStatus(const ConfigProblem& problem);  // InvalidArgument

struct Binding {
  DeclaredCommand declared;
  std::vector<Assignment> assignments;  // that hold: one a key, each an option of the command
  std::vector<ConfigProblem> problems;  // of those that do not, which were left out
};

// Applies the assignments to a new command: one a key, each an option of the command. When the
// values do not go together (Command::Check), the one to blame is found by leaving each out in
// turn: that without which the complaint goes away, among several the one named first in it. It is
// left out and the rest checked again, so that every problem is found.
Binding Bind(const CommandRow& row, std::vector<Assignment> assignments);

}  // namespace stoker
