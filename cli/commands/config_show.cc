// stoker config show: what a command would be told, and by whom.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cli/command_line.h"
#include "cli/commands/commands.h"
#include "cli/configuration.h"
#include "cli/effective_values.h"
#include "cli/environment.h"

namespace stoker {
namespace {

class ConfigShowCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    app.add_option("--for", for_, "The command; its flags may be given too, --config among them")
        ->capture_default_str();
    app.add_flag("--origin", origin_,
                 "Also where each value came from: flag, environment variable, file and line, "
                 "default");
    app.add_flag("--json", json_, "The same as JSON, with the origins");
  }
  // Its own flags are not those of the command that it shows.
  bool is_configurable() const override { return false; }
  bool TakeRest(const std::vector<std::string>& arguments) override {
    rest_ = arguments;
    return true;
  }

  absl::Status Run(Console& console) override {
    ASSIGN_OR_RETURN(const CommandRow* const row, FindCommand(for_));
    if (!DeclaredCommand::Make(*row).command->is_configurable()) {
      return absl::InvalidArgumentError(
          fmt::format("stoker {} takes no configuration\n  try: --for run", for_));
    }
    ASSIGN_OR_RETURN(CommandLine line, ParseCommandLine(*row, rest_));
    RETURN_IF_ERROR(RefuseRest(*row, line));
    ASSIGN_OR_RETURN(const Configuration configuration,
                     Configure(*row, std::move(line), Environment::Read(environ)));
    for (const std::string& note : configuration.notes) {
      console.Note(fmt::format("stoker: note: {}", note));
    }
    const std::vector<EffectiveValue> values = EffectiveValues(configuration);
    return console.Print(json_ ? FormatJson(for_, values) : FormatToml(for_, values, origin_));
  }

 private:
  std::string for_ = "run";
  bool origin_ = false;
  bool json_ = false;
  std::vector<std::string> rest_;
};

}  // namespace

std::unique_ptr<Command> MakeConfigShowCommand() { return std::make_unique<ConfigShowCommand>(); }

}  // namespace stoker
