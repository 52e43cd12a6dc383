// What stoker bench found, as numbers and as markdown, CSV or JSON.
#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/functional/function_ref.h"
#include "base/time_ledger.h"
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

bool HasDevice(const BenchReport& report) { return report.info.plan.device.is_used(); }

// Weights that came over the link or from RAM are not what the device's memory carried.
bool IsAllInVram(const BenchReport& report, const PhaseSummary RunSummary::*phase_of) {
  return std::all_of(report.samples.begin(), report.samples.end(), [&](const BenchSample& sample) {
    const PhaseSummary& phase = sample.summary.*phase_of;
    return phase.vram_hits == phase.hits + phase.misses;
  });
}

BenchRow PhaseRow(const BenchReport& report, std::string name,
                  const PhaseSummary RunSummary::*phase_of) {
  BenchRow row = {.name = std::move(name), .ceiling = report.memory_ceiling, .link = "memory"};
  if (HasDevice(report)) {
    row.link = "memory of the device";
    row.ceiling = IsAllInVram(report, phase_of) ? report.links.device : 0;
  }
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

// What a link carried in one repetition.
struct Carried {
  double bytes = 0;
  int64_t ns = 0;  // in which it did
  int64_t tokens = 0;
};

BenchRow LinkRow(BenchRow row, const BenchReport& report,
                 absl::FunctionRef<Carried(const BenchSample&)> carried_in) {
  std::vector<double> rates;
  double bytes = 0, tokens = 0;
  for (const BenchSample& sample : report.samples) {
    const Carried carried = carried_in(sample);
    bytes += carried.bytes;
    tokens += static_cast<double>(carried.tokens);
    if (carried.ns > 0) rates.push_back(carried.bytes * 1e9 / static_cast<double>(carried.ns));
  }
  row.bytes_per_second = SpreadOf(std::move(rates));
  row.bytes_per_token = tokens > 0 ? bytes / tokens : 0;
  return row;
}

int64_t TokensOf(const BenchSample& sample) {
  return sample.summary.prompt_rows + sample.summary.decode.tokens;
}

BenchRow DriveRow(const BenchReport& report) {
  return LinkRow(
      {.name = "drive", .ceiling = report.drive_ceiling.bytes_per_second, .link = "drive"}, report,
      [](const BenchSample& sample) {
        return Carried{static_cast<double>(sample.drive_bytes), sample.drive_busy_ns,
                       TokensOf(sample)};
      });
}

BenchRow CopiesRow(const BenchReport& report) {
  return LinkRow(
      {.name = "copies", .ceiling = report.links.copy_in, .link = "copies to the device"}, report,
      [](const BenchSample& sample) {
        const PhaseSummary& all = sample.summary.all;
        return Carried{static_cast<double>(all.copied_in_bytes), all.wall_ns, TokensOf(sample)};
      });
}

BenchRow SplitRow(const BenchReport& report) {
  const LinkRates& links = report.links;
  const double expert_bytes = MeanExpertBytes(report.experts);
  return LinkRow(
      {.name = "split",
       .ceiling = links.host_beside_copy + links.copy_beside_host,
       .link = "processor and copies together"},
      report, [&](const BenchSample& sample) {
        const PhaseSummary& decode = sample.summary.decode;
        Carried carried = {.tokens = decode.tokens};
        for (const Cause cause : {Cause::kExpertCompute, Cause::kWaitCopy, Cause::kWaitDevice}) {
          carried.ns += decode.causes[static_cast<size_t>(cause)];
        }
        // One of them alone is no split.
        if (decode.host_experts == 0 || decode.copied_in_bytes == 0) return carried;
        carried.bytes = static_cast<double>(decode.host_experts) * expert_bytes +
                        static_cast<double>(decode.copied_in_bytes);
        return carried;
      });
}

std::string Header(const BenchReport& report) {
  const MemoryPlan& plan = report.info.plan;
  std::string text =
      fmt::format("{}: {}, {} threads, {}, budget {}", report.model_path, report.info.isa,
                  report.info.threads, report.info.io, FormatBytes(plan.budget_bytes));
  if (HasDevice(report)) {
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
  std::vector<BenchRow> links = {DriveRow(report)};
  if (HasDevice(report)) links.push_back(CopiesRow(report));
  if (HasDevice(report) && report.info.place == PlaceRule::kAuto) links.push_back(SplitRow(report));
  for (BenchRow& row : links) {
    if (row.bytes_per_token > 0) rows.push_back(std::move(row));
  }
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
