// The program: finds the command, reads its flags, runs it, turns its status into an exit status.
#include <fmt/format.h>

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cli/command.h"
#include "cli/command_line.h"
#include "cli/configuration.h"
#include "cli/console.h"
#include "cli/environment.h"
#include "cli/exit_status.h"
#include "cli/interrupt.h"

namespace stoker {
namespace {

std::string Help() {
  std::string text =
      "stoker: runs Mixture-of-Experts language models larger than memory; experts stream from "
      "disk.\n\nUsage: stoker COMMAND [flags]\n\nCommands:\n";
  for (const CommandRow& row : Commands()) {
    text += fmt::format("  {:<14}{}\n", row.name, row.description);
  }
  return text +
         "\nstoker COMMAND --help lists a command's flags.\n\n"
         "Example:\n"
         "  stoker run -m model.gguf -p \"Once upon a time\" --ram 8G -n 200\n\n" +
         ExitStatusHelp();
}

bool IsQuiet(const Configuration& configuration) {
  for (const Assignment& assignment : configuration.assignments) {
    if (assignment.key == "quiet") return assignment.values.back().text == "true";
  }
  return false;
}

absl::Status RunConfigured(const CommandRow& row, CommandLine line, Console& console) {
  ASSIGN_OR_RETURN(const Configuration configuration,
                   Configure(row, std::move(line), Environment::Read(environ)));
  console.set_quiet(IsQuiet(configuration));
  for (const std::string& note : configuration.notes) {
    console.Note(fmt::format("stoker: note: {}", note));
  }
  return configuration.declared.command->Run(console);
}

absl::Status RunCommand(const CommandRow& row, absl::Span<const std::string> arguments,
                        Console& console) {
  ASSIGN_OR_RETURN(CommandLine line, ParseCommandLine(row, arguments));
  if (!line.help.empty()) return console.Print(line.help);
  const bool is_configurable = DeclaredCommand::Make(row).command->is_configurable();
  if (is_configurable) {
    RETURN_IF_ERROR(RefuseRest(row, line));
    return RunConfigured(row, std::move(line), console);
  }
  Binding binding = Bind(row, std::move(line.flags));
  if (!binding.problems.empty()) return AsStatus(binding.problems.front());
  Command& command = *binding.declared.command;
  if (!command.TakeRest(line.rest)) RETURN_IF_ERROR(RefuseRest(row, line));
  return command.Run(console);
}

absl::Status Main(int argc, char** argv, Console& console) {
  if (argc < 2) return absl::InvalidArgumentError("no command was named\n  try: stoker --help");
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || name == "help") return console.Print(Help());
  if (name == "--version" || name == "version") return console.Print("stoker " STOKER_VERSION "\n");
  const std::vector<std::string> arguments(argv + 2, argv + argc);
  for (const CommandRow& row : Commands()) {
    if (row.name == name) return RunCommand(row, arguments, console);
  }
  // A command may be two words: "trace report".
  const std::string pair =
      arguments.empty() ? std::string(name) : fmt::format("{} {}", name, arguments.front());
  ASSIGN_OR_RETURN(const CommandRow* const row, FindCommand(pair));
  return RunCommand(*row, absl::MakeConstSpan(arguments).subspan(1), console);
}

}  // namespace
}  // namespace stoker

int main(int argc, char** argv) {
  stoker::IgnoreBrokenPipe();
  stoker::Console console;
  const absl::Status status = stoker::Main(argc, argv, console);
  const stoker::ExitStatus exit_status = stoker::ExitStatusOf(status);
  const bool say =
      exit_status != stoker::ExitStatus::kOk && exit_status != stoker::ExitStatus::kInterrupted;
  if (say) console.Error(status);
  return static_cast<int>(exit_status);
}
