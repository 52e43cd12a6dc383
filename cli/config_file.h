// A TOML file as a list of what it assigns: nested tables are keys with dots.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/assignment.h"

namespace stoker {

// In the order of the lines. InvalidArgument: a file that cannot be read; or that is not TOML,
// naming file and line.
absl::StatusOr<std::vector<Assignment>> ReadConfigFile(const std::string& path);

}  // namespace stoker
