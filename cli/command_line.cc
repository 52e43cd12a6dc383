// The arguments of one command: what its flags were given, and what no flag took.
#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/exit_status.h"
#include "cli/nearest.h"

namespace stoker {
namespace {

constexpr std::string_view kSourcesHelp =
    "Each flag is also a key of the file of --config, and an environment variable:\n"
    "  --vram-policy lfu        vram-policy = \"lfu\"      STOKER_VRAM_POLICY=lfu\n"
    "A flag wins over a variable, a variable over the file (itself: STOKER_CONFIG).\n"
    "stoker config show --origin lists every value and where it came from.\n\n";

constexpr std::string_view kConfigFlag = "--config";

// By which an assignment finds its option: the long name, or that of a positional argument.
std::string KeyOf(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_single_name() : option.get_lnames().front();
}

std::vector<Assignment> GivenFlags(const CLI::App& app) {
  std::vector<Assignment> flags;
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0 || option == app.get_help_ptr()) continue;
    Assignment assignment = {
        .key = KeyOf(*option),
        .origin = {Origin::Kind::kFlag, option->get_lnames().empty()
                                            ? option->get_single_name()
                                            : "--" + option->get_lnames().front()}};
    for (const std::string& text : option->reduced_results()) {
      assignment.values.push_back({.text = text});
    }
    flags.push_back(std::move(assignment));
  }
  return flags;
}

}  // namespace

DeclaredCommand::DeclaredCommand() = default;
DeclaredCommand::~DeclaredCommand() = default;
DeclaredCommand::DeclaredCommand(DeclaredCommand&&) noexcept = default;
DeclaredCommand& DeclaredCommand::operator=(DeclaredCommand&&) noexcept = default;

DeclaredCommand DeclaredCommand::Make(const CommandRow& row) {
  DeclaredCommand declared;
  declared.command = row.make();
  declared.app =
      std::make_unique<CLI::App>(std::string(row.description), fmt::format("stoker {}", row.name));
  CLI::App& app = *declared.app;
  app.allow_extras();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer(declared.command->is_configurable() ? std::string(kSourcesHelp) + ExitStatusHelp()
                                                 : ExitStatusHelp());
  declared.command->Declare(app);
  return declared;
}

absl::StatusOr<CommandLine> ParseCommandLine(const CommandRow& row,
                                             absl::Span<const std::string> arguments) {
  const DeclaredCommand declared = DeclaredCommand::Make(row);
  CLI::App& app = *declared.app;
  CommandLine line;
  const CLI::Option* config = nullptr;
  if (declared.command->is_configurable()) {
    config = app.add_option(std::string(kConfigFlag), line.config,
                            "A TOML file; its keys are these flags without dashes");
  }
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    line.help = app.help();
    return line;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}\n  try: stoker {} --help", error.what(), row.name));
  }
  line.flags = GivenFlags(app);
  std::erase_if(line.flags, [&](const Assignment& flag) {
    return config != nullptr && flag.origin.place == kConfigFlag;
  });
  line.rest = app.remaining();
  return line;
}

absl::Status RefuseRest(const CommandRow& row, const CommandLine& line) {
  if (line.rest.empty()) return absl::OkStatus();
  const DeclaredCommand declared = DeclaredCommand::Make(row);
  for (const std::string& argument : line.rest) {
    if (argument.size() < 2 || argument[0] != '-') continue;
    const std::string name = argument.substr(0, argument.find('='));
    std::vector<std::string> names = {std::string(kConfigFlag)};
    for (const std::string& key : KeysOf(*declared.app)) names.push_back("--" + key);
    const std::string nearest = Nearest(name, names);
    return absl::InvalidArgumentError(
        fmt::format("unknown flag {}\n  try: {}", name,
                    nearest.empty() ? fmt::format("stoker {} --help", row.name) : nearest));
  }
  return absl::InvalidArgumentError(
      fmt::format("unexpected argument '{}'\n  likely: a value with spaces was not quoted\n"
                  "  try: stoker {} --help",
                  line.rest.front(), row.name));
}

absl::StatusOr<const CommandRow*> FindCommand(std::string_view name) {
  std::vector<std::string> names;
  for (const CommandRow& row : Commands()) {
    if (row.name == name) return &row;
    names.emplace_back(row.name);
  }
  const std::string nearest = Nearest(name, names);
  return absl::InvalidArgumentError(fmt::format("unknown command '{}'\n  try: stoker {}", name,
                                                nearest.empty() ? std::string("--help") : nearest));
}

std::vector<std::string> KeysOf(const CLI::App& app) {
  std::vector<std::string> keys;
  for (const CLI::Option* option : app.get_options()) {
    if (option == app.get_help_ptr() || option->get_lnames().empty()) continue;
    keys.push_back(option->get_lnames().front());
  }
  return keys;
}

std::vector<std::string> KeysOfAllCommands() {
  std::vector<std::string> keys;
  for (const CommandRow& row : Commands()) {
    const DeclaredCommand declared = DeclaredCommand::Make(row);
    if (!declared.command->is_configurable()) continue;
    for (std::string& key : KeysOf(*declared.app)) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
    }
  }
  return keys;
}

}  // namespace stoker
