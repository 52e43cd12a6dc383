// stoker simulate: what other policies and budgets would have made of a recorded run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "cli/commands/commands.h"
#include "cli/hit_rate_chart.h"
#include "cli/summary.h"
#include "cli/terminal.h"
#include "cli/trace_flags.h"
#include "runtime/engine.h"
#include "runtime/options.h"
#include "runtime/simulation/drafted_trace.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

struct Row {
  SimulatedRun run;
  ReplayResult result;
  double belady_rate = 0;  // of the same budget
  PredictedTimes times;
};

double PercentOf(uint64_t bytes, const Trace& trace) {
  return 100 * static_cast<double>(bytes) / static_cast<double>(trace.header.total_expert_bytes());
}

uint64_t TotalBytes(const SimulatedRun& run) { return run.budget_bytes + run.vram_budget_bytes; }

// What a replay with VRAM says besides.
ordered_json TiersJson(const Row& row) {
  const PhaseCounts& decode = row.result.decode;
  const PhaseCounts& prompt = row.result.prompt;
  return {{"vram_policy", row.run.vram_policy.empty() ? row.run.policy : row.run.vram_policy},
          {"place", NameOf(row.run.place)},
          {"vram_hits", decode.vram_hits},
          {"ram_hits", decode.hits - decode.vram_hits},
          {"bytes_copied_in", decode.copied_in_bytes},
          {"bytes_copied_out", decode.copied_out_bytes},
          {"prompt_vram_hits", prompt.vram_hits},
          {"prompt_ram_hits", prompt.hits - prompt.vram_hits},
          {"prompt_bytes_copied_in", prompt.copied_in_bytes},
          {"prompt_bytes_copied_out", prompt.copied_out_bytes}};
}

ordered_json RowJson(const Row& row, const TraceFlags::Loaded& loaded, int draft_length) {
  const PhaseCounts& decode = row.result.decode;
  const PhaseCounts& prompt = row.result.prompt;
  const auto rate = [](const PhaseCounts& counts) {
    return counts.accesses > 0 ? ordered_json(counts.hit_rate()) : ordered_json();
  };
  const bool has_times = KnowsExpertBytes(loaded.trace) && !row.result.step_ns.empty();
  const auto time = [&](double value) { return has_times ? ordered_json(value) : ordered_json(); };
  ordered_json json = {
      {"policy", row.run.policy},
      {"admission", row.run.admission},
      {"prefetch", row.run.prefetch},
      {"store", NameOf(loaded.options.store)},
      {"budget_bytes", row.run.budget_bytes},
      {"budget_percent", PercentOf(TotalBytes(row.run), loaded.trace)},
      {"accesses", decode.accesses},
      {"hits", decode.hits},
      {"misses", decode.misses},
      {"bytes_read", decode.read_bytes},
      {"hit_rate", rate(decode)},
      {"belady_hit_rate", decode.accesses > 0 ? ordered_json(row.belady_rate) : ordered_json()},
      {"prompt_accesses", prompt.accesses},
      {"prompt_hits", prompt.hits},
      {"prompt_misses", prompt.misses},
      {"prompt_bytes_read", prompt.read_bytes},
      {"hint_bytes", row.result.hint_bytes},
      {"tokens", row.result.decode_rows},
      {"tokens_per_s", time(row.times.tokens_per_s)},
      {"p50_ms", time(row.times.p50_ms)},
      {"p99_ms", time(row.times.p99_ms)},
      {"expert_bytes_known", KnowsExpertBytes(loaded.trace)}};
  if (loaded.has_vram()) json["vram_budget_bytes"] = row.run.vram_budget_bytes;
  if (loaded.has_vram() && row.run.policy != kBelady) json.update(TiersJson(row));
  if (draft_length > 0) json["draft_length"] = draft_length;
  return json;
}

// The widest row is 78 characters, with VRAM 98; narrow terminals lose columns from the right.
std::string FormatRow(std::vector<std::string> cells, bool has_vram, int columns) {
  constexpr int kWidths[] = {-24, 9, 11, 12, 11, 10};
  constexpr int kTieredWidths[] = {-22, 9, 9, 10, 12, 11, 10, 15};
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const int signed_width = has_vram ? kTieredWidths[i] : kWidths[i];
    const int width = std::abs(signed_width);
    if (i > 1 && static_cast<int>(line.size()) + width > columns) break;
    line += signed_width < 0 ? fmt::format("{:<{}}", cells[i], width)
                             : fmt::format("{:>{}}", cells[i], width);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string FormatRow(const Row& row, const TraceFlags::Loaded& loaded, int columns) {
  const PhaseCounts& decode = row.result.decode;
  const auto tokens = static_cast<uint64_t>(std::max<int64_t>(1, row.result.decode_rows));
  const bool has_bytes = KnowsExpertBytes(loaded.trace);
  const bool has_times = has_bytes && !row.result.step_ns.empty();
  const bool is_belady = row.run.policy == kBelady;
  const double gap = 100 * (decode.hit_rate() - row.belady_rate);
  std::vector<std::string> cells = {row.run.policy,
                                    fmt::format("{:.2f} %", 100 * decode.hit_rate())};
  if (loaded.has_vram()) {
    const double share = 100 * static_cast<double>(decode.vram_hits) /
                         static_cast<double>(std::max<uint64_t>(1, decode.accesses));
    cells.push_back(is_belady ? std::string() : fmt::format("{:.2f} %", share));
  }
  cells.push_back(is_belady ? std::string() : fmt::format("{:+.2f}", gap));
  cells.push_back(has_bytes ? FormatBytes(decode.read_bytes / tokens)
                            : fmt::format("{:.1f}", static_cast<double>(decode.read_bytes) /
                                                        static_cast<double>(tokens)));
  if (has_times) {
    cells.push_back(fmt::format("{:.2f}/s", row.times.tokens_per_s));
    cells.push_back(fmt::format("{:.1f} ms", row.times.p99_ms));
  }
  if (has_times && loaded.has_vram() && !is_belady) {
    cells.push_back(FormatBytes((decode.copied_in_bytes + decode.copied_out_bytes) / tokens));
  }
  return FormatRow(std::move(cells), loaded.has_vram(), columns);
}

std::string FormatTitles(const TraceFlags::Loaded& loaded, int columns) {
  const bool has_bytes = KnowsExpertBytes(loaded.trace);
  std::vector<std::string> titles = {"policy", "hits"};
  if (loaded.has_vram()) titles.emplace_back("in VRAM");
  for (const char* title : {"to belady", has_bytes ? "read/token" : "misses/t",
                            has_bytes ? "tokens" : "", has_bytes ? "p99" : ""}) {
    titles.emplace_back(title);
  }
  if (loaded.has_vram()) titles.emplace_back("copied/token");
  return FormatRow(std::move(titles), loaded.has_vram(), columns);
}

std::string FormatTable(const std::vector<Row>& rows, const TraceFlags::Loaded& loaded,
                        int columns) {
  const bool has_bytes = KnowsExpertBytes(loaded.trace);
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SimulatedRun& run = rows[i].run;
    const bool is_first = i == 0 || rows[i - 1].run.budget_bytes != run.budget_bytes ||
                          rows[i - 1].run.vram_budget_bytes != run.vram_budget_bytes;
    if (is_first) {
      std::string size =
          has_bytes ? FormatBytes(run.budget_bytes) : fmt::format("{} experts", run.budget_bytes);
      if (loaded.has_vram()) {
        size = fmt::format("{} in RAM, {} in VRAM", size, FormatBytes(run.vram_budget_bytes));
      }
      text += fmt::format("\n{} ({:.4g} % of all experts)\n", size,
                          PercentOf(TotalBytes(run), loaded.trace));
      text += FormatTitles(loaded, columns);
    }
    text += FormatRow(rows[i], loaded, columns);
  }
  return text;
}

// Best at the largest budget first, so that it is on top where lines meet.
std::string FormatPicture(const std::vector<Row>& rows, const TraceFlags::Loaded& loaded,
                          int columns, bool has_color) {
  HitRateChart chart;
  const size_t budget_count = loaded.budgets.size();
  for (const SimulatedBudget& budget : loaded.budgets) {
    const double percent = PercentOf(budget.total_bytes(), loaded.trace);
    chart.shares.push_back(percent);
    chart.budget_texts.push_back(fmt::format("{:.3g}%", percent));
  }
  constexpr size_t kSeriesMax = 26;
  const size_t policy_count = std::min(rows.size() / budget_count, kSeriesMax);
  for (size_t policy = 0; policy < policy_count; ++policy) {
    HitRateChart::Series series = {.name = rows[policy].run.policy};
    for (size_t budget = 0; budget < budget_count; ++budget) {
      const size_t at = budget * (rows.size() / budget_count) + policy;
      series.rates.push_back(rows[at].result.decode.hit_rate());
    }
    chart.series.push_back(std::move(series));
  }
  return "\nhit rate over budget\n" + FormatHitRateChart(chart, columns, has_color);
}

class SimulateCommand final : public Command {
 public:
  void Declare(CLI::App& app) override {
    trace_.Declare(app);
    trace_.DeclareVram(app);
    app.add_option("--policy", policies_,
                   "Policies to try, with commas; belady: the offline optimum; all: every one")
        ->capture_default_str();
    app.add_option("--admission", admission_, "Who is kept after a miss: as of stoker run")
        ->capture_default_str();
    app.add_option("--prefetch", prefetch_,
                   "slots: who guesses the next experts: as of stoker run; guesses of the model's "
                   "own are those of the trace")
        ->capture_default_str();
    app.add_option("--draft-len", draft_length_,
                   "Drafts that each sequence has checked in a step; 0: the steps as recorded")
        ->capture_default_str();
    app.add_option("--acceptance", acceptance_,
                   "How often drafts are right, by place, with commas (the last holds for all "
                   "behind): 0.8,0.6; default: as the trace found");
    app.add_flag("--json", json_, "One object a line for each policy and budget");
    app.add_flag("--no-color", no_color_, "Plain characters; also with NO_COLOR set");
  }

  absl::Status Check() override {
    RETURN_IF_ERROR(trace_.Check());
    if (draft_length_ < 0 || draft_length_ > kDraftLengthMax) {
      return absl::InvalidArgumentError(
          fmt::format("--draft-len is {}, which is not allowed: it must be from 0 to {}",
                      draft_length_, kDraftLengthMax));
    }
    if (draft_length_ > 0 || acceptance_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--acceptance has no meaning without drafts\n  try: --draft-len 2 too");
  }

  absl::Status Run(Console& console) override {
    ASSIGN_OR_RETURN(TraceFlags::Loaded loaded, trace_.Load());
    if (draft_length_ > 0) RETURN_IF_ERROR(AddDrafts(loaded));
    ASSIGN_OR_RETURN(const std::vector<Row> rows, Simulated(loaded));
    if (!json_) return console.Print(Text(rows, loaded, console.stdout_is_terminal()));
    for (const Row& row : rows) {
      RETURN_IF_ERROR(console.Print(JsonLine(RowJson(row, loaded, draft_length_))));
    }
    return absl::OkStatus();
  }

 private:
  // Deals the trace's tokens out over steps with drafts. Times were fitted to the steps as they
  // were.
  absl::Status AddDrafts(TraceFlags::Loaded& loaded) const {
    constexpr uint64_t kSeed = 1;
    if (prefetch_ == "lookahead") {
      return absl::InvalidArgumentError(
          "--prefetch is lookahead: a trace has the model's guesses for its own steps, not for "
          "steps with drafts\n  try: another predictor, or no --draft-len");
    }
    ASSIGN_OR_RETURN(AcceptanceByPlace acceptance, ParseAcceptance());
    if (acceptance.empty()) acceptance = AcceptanceOf(loaded.trace);
    if (acceptance.empty()) {
      return absl::InvalidArgumentError(
          "no drafts were checked in this run, so how often they are right is not known\n  try: "
          "--acceptance 0.7, or a trace of a run with --draft");
    }
    loaded.trace = WithDrafts(loaded.trace, draft_length_, acceptance, kSeed);
    return absl::OkStatus();
  }

  absl::StatusOr<AcceptanceByPlace> ParseAcceptance() const {
    AcceptanceByPlace acceptance;
    if (acceptance_.empty()) return acceptance;
    ASSIGN_OR_RETURN(const std::vector<std::string> parts, SplitList("--acceptance", acceptance_));
    for (const std::string& part : parts) {
      double value = -1;
      const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
      if (error == std::errc() && end == part.data() + part.size() && value >= 0 && value <= 1) {
        acceptance.push_back(value);
        continue;
      }
      return absl::InvalidArgumentError(fmt::format(
          "--acceptance has \"{}\", which is not allowed: it must be shares from 0 to 1", part));
    }
    return acceptance;
  }

  absl::StatusOr<std::vector<std::string>> Policies(const TraceFlags::Loaded& loaded) const {
    ASSIGN_OR_RETURN(const std::vector<std::string> asked, SplitList("--policy", policies_));
    std::vector<std::string> policies;
    const auto add = [&policies](const std::string& name) {
      if (std::find(policies.begin(), policies.end(), name) == policies.end()) {
        policies.push_back(name);
      }
    };
    for (const std::string& name : asked) {
      if (name != "all") {
        add(name);
        continue;
      }
      add(std::string(kBelady));
      for (const std::string& known : SimulatedPolicies(!loaded.options.profile.empty())) {
        add(known);
      }
    }
    return policies;
  }

  // By budget, then in the order asked.
  absl::StatusOr<std::vector<Row>> Simulated(const TraceFlags::Loaded& loaded) const {
    ASSIGN_OR_RETURN(const std::vector<std::string> policies, Policies(loaded));
    if (prefetch_ != "none" && loaded.options.store == StoreKind::kPool) {
      return absl::InvalidArgumentError(fmt::format(
          "--prefetch is {}, but a pool has no drive to read ahead from\n  try: --store slots, or "
          "leave it out",
          prefetch_));
    }
    std::vector<SimulatedRun> runs;
    for (const SimulatedBudget& budget : loaded.budgets) {
      SimulatedRun run = {.admission = admission_,
                          .prefetch = prefetch_,
                          .budget_bytes = budget.bytes,
                          .vram_budget_bytes = budget.vram_bytes,
                          .vram_policy = loaded.vram_policy,
                          .place = loaded.place,
                          .is_recorded_budget = budget.is_recorded,
                          .layer_floor = loaded.layer_floor,
                          .settings = trace_.settings};
      run.policy = kBelady;
      runs.push_back(run);  // to measure the others by
      for (const std::string& policy : policies) {
        run.policy = policy;
        runs.push_back(run);
      }
    }
    ASSIGN_OR_RETURN(std::vector<ReplayResult> results,
                     Simulate(loaded.trace, runs, loaded.options, loaded.timing));
    std::vector<Row> rows;
    double belady_rate = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (i % (policies.size() + 1) == 0) {
        belady_rate = results[i].decode.hit_rate();
        continue;
      }
      rows.push_back(
          {.run = std::move(runs[i]), .result = std::move(results[i]), .belady_rate = belady_rate});
      rows.back().times = PredictTimes(rows.back().result);
    }
    return rows;
  }

  std::string Text(const std::vector<Row>& rows, const TraceFlags::Loaded& loaded,
                   bool is_terminal) const {
    const int columns = TerminalColumns();
    std::string text = DescribeSimulation(loaded) + FormatTable(rows, loaded, columns);
    if (loaded.budgets.size() < 2) return text;
    return text + FormatPicture(rows, loaded, columns, !no_color_ && WantsColor(is_terminal));
  }

  TraceFlags trace_;
  std::string policies_ = "all";
  std::string admission_ = "always";
  std::string prefetch_ = "none";
  int draft_length_ = 0;
  std::string acceptance_;
  bool json_ = false;
  bool no_color_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeSimulateCommand() { return std::make_unique<SimulateCommand>(); }

}  // namespace stoker
