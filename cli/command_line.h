// The arguments of one command: what its flags were given, and what no flag took.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cli/assignment.h"
#include "cli/command.h"

namespace stoker {

struct CommandLine {
  std::vector<Assignment> flags;
  std::string config;             // --config; empty: not given
  std::string help;               // what --help prints; empty: not asked for
  std::vector<std::string> rest;  // arguments that no flag took
};
// InvalidArgument: a flag without its value, or a value that cannot be read.
absl::StatusOr<CommandLine> ParseCommandLine(const CommandRow& row,
                                             absl::Span<const std::string> arguments);
// InvalidArgument when there are such arguments, naming the flag that was likely meant.
absl::Status RefuseRest(const CommandRow& row, const CommandLine& line);

// A command with its flags declared, none of them given.
struct DeclaredCommand {
  DeclaredCommand();
  ~DeclaredCommand();
  DeclaredCommand(DeclaredCommand&&) noexcept;
  DeclaredCommand& operator=(DeclaredCommand&&) noexcept;

  std::unique_ptr<Command> command;
  std::unique_ptr<CLI::App> app;  // bound to members of the command

  static DeclaredCommand Make(const CommandRow& row);
};

// Names of an app's flags, without dashes, one a flag; --help left out.
std::vector<std::string> KeysOf(const CLI::App& app);
// The flags of every command that is configurable, each once.
std::vector<std::string> KeysOfAllCommands();

}  // namespace stoker
