// What stoker bench found, as numbers and as markdown, CSV or JSON.
#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/units.h"

namespace stoker {
namespace {

double MedianOf(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double MeanExpertBytes(const ExpertCatalog& catalog) {
  const int64_t count = catalog.expert_count();
  return count == 0 ? 0 : static_cast<double>(catalog.total_bytes()) / static_cast<double>(count);
}

BenchRow PhaseRow(const BenchReport& report, std::string name,
                  const PhaseSummary RunSummary::*phase_of) {
  BenchRow row = {.name = std::move(name), .ceiling = report.memory_ceiling, .link = "memory"};
  // With a device most of the weights are read from its memory, which was not measured.
  if (report.info.plan.device.is_used()) row.ceiling = 0;
  const double expert_bytes = MeanExpertBytes(report.experts);
  std::vector<double> token_rates, byte_rates;
  double bytes = 0, tokens = 0, hits = 0, asked = 0, system_ns = 0, wall_ns = 0;
  for (const BenchSample& sample : report.samples) {
    const PhaseSummary& phase = sample.summary.*phase_of;
    const double experts = static_cast<double>(phase.hits + phase.misses);
    const double phase_bytes =
        static_cast<double>(phase.steps) * static_cast<double>(report.trunk_bytes) +
        experts * expert_bytes;
    token_rates.push_back(phase.tokens_per_second());
    byte_rates.push_back(phase_bytes * 1e9 / std::max(1.0, static_cast<double>(phase.wall_ns)));
    bytes += phase_bytes;
    tokens += static_cast<double>(phase.tokens);
    hits += static_cast<double>(phase.hits);
    asked += experts;
    system_ns += static_cast<double>(phase.system_ns);
    wall_ns += static_cast<double>(phase.wall_ns);
  }
  row.tokens_per_second = SpreadOf(std::move(token_rates));
  row.bytes_per_second = SpreadOf(std::move(byte_rates));
  row.bytes_per_token = tokens > 0 ? bytes / tokens : 0;
  row.hit_rate = asked > 0 ? hits / asked : 0;
  row.system_share = wall_ns > 0 ? system_ns / wall_ns : 0;
  return row;
}

BenchRow DriveRow(const BenchReport& report) {
  BenchRow row = {
      .name = "drive", .ceiling = report.drive_ceiling.bytes_per_second, .link = "drive"};
  std::vector<double> rates;
  double bytes = 0, tokens = 0;
  for (const BenchSample& sample : report.samples) {
    bytes += static_cast<double>(sample.drive_bytes);
    tokens += static_cast<double>(sample.summary.prompt_rows + sample.summary.decode.tokens);
    if (sample.drive_busy_ns == 0) continue;
    rates.push_back(static_cast<double>(sample.drive_bytes) * 1e9 /
                    static_cast<double>(sample.drive_busy_ns));
  }
  row.bytes_per_second = SpreadOf(std::move(rates));
  row.bytes_per_token = tokens > 0 ? bytes / tokens : 0;
  return row;
}

std::string Header(const BenchReport& report) {
  const MemoryPlan& plan = report.info.plan;
  std::string text =
      fmt::format("{}: {}, {} threads, {}, budget {}", report.model_path, report.info.isa,
                  report.info.threads, report.info.io, FormatBytes(plan.budget_bytes));
  if (plan.device.is_used()) {
    text += fmt::format(", {} with {} of VRAM", report.info.device,
                        FormatBytes(plan.device.budget_bytes));
  }
  return text + fmt::format(", {} repetitions", report.samples.size());
}

// The cells "ceiling | share".
std::string Ceiling(const BenchRow& row) {
  if (row.ceiling == 0) return "– | –";
  return fmt::format("{} ({}) | {:.0f} %", FormatRate(row.ceiling), row.link, row.share() * 100);
}

std::string Markdown(const BenchReport& report) {
  std::string text = Header(report) +
                     "\n\n| rate | tokens/s | bytes/token | reached | ceiling | share | hits |\n"
                     "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
  for (const BenchRow& row : BenchRows(report)) {
    const bool is_tokens = row.tokens_per_second.median > 0;
    text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", row.name,
                        is_tokens ? fmt::format("{:.2f} ± {:.2f}", row.tokens_per_second.median,
                                                row.tokens_per_second.deviation)
                                  : std::string("–"),
                        FormatBytes(static_cast<uint64_t>(row.bytes_per_token)),
                        FormatRate(row.bytes_per_second.median), Ceiling(row),
                        is_tokens ? fmt::format("{:.1f} %", row.hit_rate * 100) : std::string("–"));
  }
  return text + "\nMedians over the repetitions, ± median absolute deviation.\n";
}

std::string Csv(const BenchReport& report) {
  std::string text =
      "name,tokens_per_second,tokens_per_second_mad,bytes_per_token,bytes_per_second,"
      "bytes_per_second_mad,link,ceiling_bytes_per_second,share,hit_rate,system_share\n";
  for (const BenchRow& row : BenchRows(report)) {
    text += fmt::format("{},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{},{:.6g},{:.6g},{:.6g},{:.6g}\n",
                        row.name, row.tokens_per_second.median, row.tokens_per_second.deviation,
                        row.bytes_per_token, row.bytes_per_second.median,
                        row.bytes_per_second.deviation, row.link, row.ceiling, row.share(),
                        row.hit_rate, row.system_share);
  }
  return text;
}

std::string Json(const BenchReport& report) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const BenchRow& row : BenchRows(report)) {
    rows.push_back({{"name", row.name},
                    {"tokens_per_second", row.tokens_per_second.median},
                    {"tokens_per_second_mad", row.tokens_per_second.deviation},
                    {"bytes_per_token", row.bytes_per_token},
                    {"bytes_per_second", row.bytes_per_second.median},
                    {"bytes_per_second_mad", row.bytes_per_second.deviation},
                    {"link", row.link},
                    {"ceiling_bytes_per_second", row.ceiling},
                    {"share", row.share()},
                    {"hit_rate", row.hit_rate},
                    {"system_share", row.system_share}});
  }
  const nlohmann::ordered_json json = {{"model", report.model_path},
                                       {"isa", report.info.isa},
                                       {"threads", report.info.threads},
                                       {"io", report.info.io},
                                       {"policy", report.options.policy},
                                       {"chunk", report.options.chunk},
                                       {"budget_bytes", report.info.plan.budget_bytes},
                                       {"device", report.info.device},
                                       {"vram_budget_bytes", report.info.plan.device.budget_bytes},
                                       {"repetitions", report.samples.size()},
                                       {"rows", rows}};
  return json.dump(2) + "\n";
}

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  Spread spread = {.median = MedianOf(values)};
  for (double& value : values) value = std::abs(value - spread.median);
  spread.deviation = MedianOf(values);
  return spread;
}

std::vector<BenchRow> BenchRows(const BenchReport& report) {
  std::vector<BenchRow> rows = {PhaseRow(report, "prompt", &RunSummary::prompt),
                                PhaseRow(report, "decode", &RunSummary::decode)};
  BenchRow drive = DriveRow(report);
  if (drive.bytes_per_token > 0) rows.push_back(std::move(drive));
  return rows;
}

absl::StatusOr<BenchFormat> FindBenchFormat(std::string_view name) {
  if (name == "markdown") return &Markdown;
  if (name == "csv") return &Csv;
  if (name == "json") return &Json;
  return absl::InvalidArgumentError(
      fmt::format("unknown format '{}'\n  try: markdown, csv or json", name));
}

}  // namespace stoker
