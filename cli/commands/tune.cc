// stoker tune: the policy and parameters that a trace speaks for, as a configuration file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "cli/commands/commands.h"
#include "cli/trace_flags.h"
#include "runtime/choices.h"
#include "runtime/simulation/tune.h"

namespace stoker {
namespace {

// "lfru, second-hit, lfru.half_life 64".
std::string Name(const SimulatedRun& run) {
  std::string name = run.policy;
  if (run.admission != "always") name += fmt::format(", {}", run.admission);
  if (run.layer_floor >= 0) name += fmt::format(", layer_floor {}", run.layer_floor);
  for (const Setting& setting : run.settings) {
    name += fmt::format(", {} {:g}", setting.key, setting.value);
  }
  return name;
}

std::string EvidenceRow(const TunedRun& run, bool has_times) {
  std::string text =
      fmt::format("#   {:>8.2f} %  {:>8.2f} %", 100 * run.searched_rate, 100 * run.held_out_rate);
  if (has_times) text += fmt::format("  {:>9.2f}", run.times.tokens_per_s);
  return fmt::format("{}  {}\n", text, Name(run.run));
}

const ParameterRow* FindParameter(std::string_view row_name, std::string_view parameter) {
  for (const TunableRow& row : TunableRows()) {
    if (row.name != row_name) continue;
    for (const ParameterRow& found : row.parameters) {
      if (found.name == parameter) return &found;
    }
  }
  return nullptr;
}

// A table a row that is tuned, each value with its default and range. Settings come sorted by key.
std::string Tables(const std::vector<Setting>& settings) {
  std::string text;
  std::string table;
  for (const Setting& setting : settings) {
    const size_t dot = setting.key.find('.');
    const std::string row = setting.key.substr(0, dot);
    const std::string parameter = setting.key.substr(dot + 1);
    if (row != table) text += fmt::format("\n[{}]\n", row);
    table = row;
    text += fmt::format("{} = {:g}", parameter, setting.value);
    if (const ParameterRow* known = FindParameter(row, parameter); known != nullptr) {
      text += fmt::format("  # default {:g}, from {:g} to {:g}", known->value, known->minimum,
                          known->maximum);
    }
    text += "\n";
  }
  return text;
}

std::string Toml(const Tuning& tuning, const TraceFlags::Loaded& loaded, uint64_t budget_bytes) {
  const bool has_times = KnowsExpertBytes(loaded.trace) && tuning.defaults.times.tokens_per_s > 0;
  constexpr size_t kShown = 8;
  const TunedRun& chosen = tuning.recommended;
  const bool is_default = Name(chosen.run) == Name(tuning.defaults.run);
  std::string text = fmt::format(
      "# Recommended by stoker tune after {} replays of {},\n# with {} for experts, {:.4g} % of "
      "them.\n#\n# Hit rates of decoding: in the first half of the trace, which was searched; in "
      "the second,\n# which was held out{}.\n#\n",
      tuning.tried.size(), loaded.trace.header.model,
      KnowsExpertBytes(loaded.trace) ? FormatBytes(budget_bytes)
                                     : fmt::format("room for {}", budget_bytes),
      100 * static_cast<double>(budget_bytes) /
          static_cast<double>(loaded.trace.header.total_expert_bytes()),
      has_times ? "; and tokens/s as predicted over both" : "");
  text += fmt::format("#     searched    held out{}\n", has_times ? "   tokens/s" : "");
  text += EvidenceRow(tuning.defaults, has_times);
  for (size_t i = 0; i < tuning.tried.size() && i < kShown; ++i) {
    if (Name(tuning.tried[i].run) == Name(tuning.defaults.run)) continue;
    text += EvidenceRow(tuning.tried[i], has_times);
  }
  text += EvidenceRow(tuning.belady, has_times);
  text +=
      "#   The first row is the default, the last the offline optimum, which no run can have.\n";
  text += is_default
              ? "#\n# Nothing was better than the default in both halves, so that it stays.\n"
              : "";
  text += fmt::format("\npolicy = \"{}\"\nadmission = \"{}\"\n", chosen.run.policy,
                      chosen.run.admission);
  if (chosen.run.layer_floor >= 0) {
    text += fmt::format("layer-floor = {}\n", chosen.run.layer_floor);
  }
  return text + Tables(chosen.run.settings);
}

class TuneCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    trace_.Declare(app);
    app.add_option("-o,--output", output_, "The file to write; default: standard output");
    app.add_option("--replays", replays_, "Replays at most")->capture_default_str();
  }

  absl::Status Check() override {
    constexpr int kReplaysMax = 100'000;
    if (replays_ < 1 || replays_ > kReplaysMax) {
      return absl::InvalidArgumentError(fmt::format(
          "--replays is {}, which is not allowed: it must be from 1 to 100000", replays_));
    }
    if (!trace_.settings.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("--{} is given, but tune searches for it itself\n  try: leave it out",
                      trace_.settings.front().key));
    }
    return trace_.Check();
  }

  absl::Status Run(Console& console) override {
    ASSIGN_OR_RETURN(const TraceFlags::Loaded loaded, trace_.Load());
    if (loaded.budgets.size() != 1) {
      return absl::InvalidArgumentError(
          "tune needs one budget: what is best depends on it\n  try: --budget 25%");
    }
    const SimulatedBudget& budget = loaded.budgets.front();
    ASSIGN_OR_RETURN(const Tuning tuning, Tune(loaded.trace,
                                               {.simulation = loaded.options,
                                                .budget_bytes = budget.bytes,
                                                .is_recorded_budget = budget.is_recorded,
                                                .replays_max = replays_},
                                               loaded.timing));
    const std::string text = Toml(tuning, loaded, budget.bytes);
    if (output_.empty()) return console.Print(text);
    RETURN_IF_ERROR(Write(text));
    console.Note(fmt::format("{}: {}, {:.2f} % of held-out accesses hit; the default {:.2f} %",
                             output_, Name(tuning.recommended.run),
                             100 * tuning.recommended.held_out_rate,
                             100 * tuning.defaults.held_out_rate));
    return absl::OkStatus();
  }

 private:
  absl::Status Write(const std::string& text) const {
    std::ofstream file(output_, std::ios::binary);
    file << text;
    file.close();
    if (file.good()) return absl::OkStatus();
    return absl::InternalError(
        fmt::format("cannot write {}: {}\n  try: another place", output_, std::strerror(errno)));
  }

  TraceFlags trace_;
  std::string output_;
  int replays_ = TuneOptions().replays_max;
};

}  // namespace

std::unique_ptr<Command> MakeTuneCommand() { return std::make_unique<TuneCommand>(); }

}  // namespace stoker
