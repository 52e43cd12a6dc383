// stoker config check: whether a configuration file can be used, without using it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/commands/commands.h"
#include "cli/configuration.h"

namespace stoker {
namespace {

class ConfigCheckCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    app.add_option("FILE", path_, "The configuration file");
    app.add_option(
        "--for", for_,
        "The command that judges the keys it has; else the first in --help that has one");
  }
  bool is_configurable() const override { return false; }

  absl::Status Run(Console& console) override {
    if (path_.empty()) {
      return absl::InvalidArgumentError(
          "no file was named\n  try: stoker config check stoker.toml");
    }
    const CommandRow* row = nullptr;
    if (!for_.empty()) {
      ASSIGN_OR_RETURN(row, FindCommand(for_));
    }
    ASSIGN_OR_RETURN(const std::vector<ConfigProblem> problems, CheckConfigFile(path_, row));
    if (problems.empty()) return console.Print(fmt::format("{}: nothing is wrong\n", path_));
    std::string text =
        fmt::format("{} problem{} in {}", problems.size(), problems.size() == 1 ? "" : "s", path_);
    for (const ConfigProblem& problem : problems) text += "\n" + Format(problem);
    return absl::InvalidArgumentError(text);
  }

 private:
  std::string path_;
  std::string for_;
};

}  // namespace

std::unique_ptr<Command> MakeConfigCheckCommand() { return std::make_unique<ConfigCheckCommand>(); }

}  // namespace stoker
