// What a subcommand is to the rest of the program: it declares flags, then runs.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cli/console.h"

namespace CLI {
class App;
}

namespace stoker {

class Command {
 public:
  virtual ~Command() = default;
  // Declares the flags, bound to members of this object, which must outlive `app`.
  virtual void Declare(CLI::App& app) = 0;
  // Whether the values can be used together; InvalidArgument naming flag, value and range. Called
  // after the flags, and again after each key of a --config file, to blame the right line.
  virtual absl::Status Check() { return absl::OkStatus(); }
  // Runs with the flags parsed. The status decides the exit status (ExitStatusOf).
  virtual absl::Status Run(Console& console) = 0;
};

struct CommandRow {
  std::string_view name;
  std::string_view description;
  std::unique_ptr<Command> (*make)();
};
// In commands/registry.cc, in the order in which --help shows them.
absl::Span<const CommandRow> Commands();

}  // namespace stoker
