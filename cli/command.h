// What a subcommand is to the rest of the program: it declares flags, then runs.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
  // Whether the flags can be given by a --config file and the environment too.
  virtual bool is_configurable() const { return true; }
  // Offered the arguments that no flag took; false: it has no use for them, which is an error.
  virtual bool TakeRest(const std::vector<std::string>& /*arguments*/) { return false; }
  // Whether the values can be used together, wherever they came from; InvalidArgument naming flag,
  // value and range. May be called on other objects of the same command, with a value left out, to
  // find the one to blame.
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
// InvalidArgument with the nearest name when there is no such command.
absl::StatusOr<const CommandRow*> FindCommand(std::string_view name);

}  // namespace stoker
