// Options from a TOML file: every key is a flag without its dashes.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace CLI {
class App;
}

namespace stoker {

struct ConfigTarget {
  CLI::App& app;                                  // parsed; its flags win over the file
  absl::Span<const std::string> other_keys;       // keys that only other commands know
  std::function<absl::Status()> check;            // of the values so far
  std::function<void(std::string_view)> on_note;  // told of a key that only others know
};

// Applies the file. InvalidArgument naming file and line: not TOML, an unknown key (with the
// nearest known one), a value of the wrong type, or one that `check` refuses.
absl::Status ApplyConfigFile(const std::string& path, const ConfigTarget& target);

// Long names of an app's options, without dashes; help and config left out.
std::vector<std::string> OptionKeys(const CLI::App& app);

}  // namespace stoker
