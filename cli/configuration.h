// Puts flags, environment and configuration file together: a flag wins over a variable, a variable
// over the file, the file over the default.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/binding.h"
#include "cli/command_line.h"
#include "cli/environment.h"

namespace stoker {

struct Configuration {
  DeclaredCommand declared;             // checked
  std::vector<Assignment> assignments;  // what it was given, one a key
  std::vector<std::string> notes;       // what was given and is of no use to it, for the operator
};
// InvalidArgument naming the place of the first problem: a line of the file, a variable, a flag.
absl::StatusOr<Configuration> Configure(const CommandRow& row, CommandLine line,
                                        const Environment& environment);

// Everything that is wrong with a file, in the order of its lines: each key is judged by `row` or,
// when that is null or does not know it, by the first command that does. InvalidArgument when it
// cannot be read or is not TOML.
absl::StatusOr<std::vector<ConfigProblem>> CheckConfigFile(const std::string& path,
                                                           const CommandRow* row);

}  // namespace stoker
