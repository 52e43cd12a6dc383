// The program: finds the command, reads its flags, runs it, turns its status into an exit status.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/console.h"
#include "cli/exit_status.h"
#include "cli/interrupt.h"
#include "cli/nearest.h"

namespace stoker {
namespace {

std::string Help() {
  std::string text =
      "stoker: runs Mixture-of-Experts language models larger than memory; experts stream from "
      "disk.\n\nUsage: stoker COMMAND [flags]\n\nCommands:\n";
  for (const CommandRow& row : Commands()) {
    text += fmt::format("  {:<12}{}\n", row.name, row.description);
  }
  return text +
         "\nstoker COMMAND --help lists a command's flags.\n\n"
         "Example:\n"
         "  stoker run -m model.gguf -p \"Once upon a time\" --ram 8G -n 200\n\n" +
         ExitStatusHelp();
}

absl::Status UnknownCommand(std::string_view name) {
  std::vector<std::string> names;
  for (const CommandRow& row : Commands()) names.emplace_back(row.name);
  const std::string nearest = Nearest(name, names);
  return absl::InvalidArgumentError(fmt::format("unknown command '{}'\n  try: stoker {}", name,
                                                nearest.empty() ? std::string("--help") : nearest));
}

// The arguments that no flag took: an error naming the flag that was likely meant.
absl::Status CheckLeftovers(const CLI::App& app) {
  const std::vector<std::string> leftovers = app.remaining();
  if (leftovers.empty()) return absl::OkStatus();
  for (const std::string& argument : leftovers) {
    if (argument.size() < 2 || argument[0] != '-') continue;
    const std::string name = argument.substr(0, argument.find('='));
    std::vector<std::string> names;
    for (const std::string& key : OptionKeys(app)) names.push_back("--" + key);
    const std::string nearest = Nearest(name, names);
    return absl::InvalidArgumentError(
        fmt::format("unknown flag {}\n  try: {}", name,
                    nearest.empty() ? app.get_name() + " --help" : nearest));
  }
  return absl::InvalidArgumentError(
      fmt::format("unexpected argument '{}'\n  likely: a value with spaces was not quoted\n"
                  "  try: {} --help",
                  leftovers.front(), app.get_name()));
}

// Keys that other commands would understand in a shared configuration file.
std::vector<std::string> KeysOfAllCommands() {
  std::vector<std::string> keys;
  for (const CommandRow& row : Commands()) {
    CLI::App app;
    const std::unique_ptr<Command> command = row.make();
    command->Declare(app);
    for (std::string& key : OptionKeys(app)) keys.push_back(std::move(key));
  }
  return keys;
}

absl::Status RunCommand(const CommandRow& row, int argc, char** argv, Console& console) {
  CLI::App app{std::string(row.description), fmt::format("stoker {}", row.name)};
  app.allow_extras();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer(ExitStatusHelp());
  std::string config;
  const std::unique_ptr<Command> command = row.make();
  command->Declare(app);
  app.add_option("--config", config, "A TOML file; its keys are these flags without dashes");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return console.Print(app.help());
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}\n  try: stoker {} --help", error.what(), row.name));
  }
  RETURN_IF_ERROR(CheckLeftovers(app));
  RETURN_IF_ERROR(command->Check());
  if (!config.empty()) {
    const std::vector<std::string> other_keys = KeysOfAllCommands();
    RETURN_IF_ERROR(ApplyConfigFile(config, {.app = app,
                                             .other_keys = other_keys,
                                             .check = [&command] { return command->Check(); },
                                             .on_note =
                                                 [&console](std::string_view note) {
                                                   console.Note(
                                                       fmt::format("stoker: note: {}", note));
                                                 }}));
  }
  return command->Run(console);
}

absl::Status Main(int argc, char** argv, Console& console) {
  if (argc < 2) return absl::InvalidArgumentError("no command was named\n  try: stoker --help");
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || name == "help") return console.Print(Help());
  if (name == "--version" || name == "version") return console.Print("stoker " STOKER_VERSION "\n");
  // A command may be two words: "trace report".
  const std::string pair = argc > 2 ? fmt::format("{} {}", name, argv[2]) : std::string(name);
  for (const CommandRow& row : Commands()) {
    if (row.name == name) return RunCommand(row, argc - 1, argv + 1, console);
    if (row.name == pair) return RunCommand(row, argc - 2, argv + 2, console);
  }
  return UnknownCommand(pair);
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
