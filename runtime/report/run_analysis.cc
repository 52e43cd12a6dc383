// Rates, and the sentences that a page begins with.
#include "runtime/report/run_analysis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/units.h"

namespace stoker {
namespace {

// Above this share of unattributed time the record itself is suspect.
constexpr double kUnattributedMax = 0.01;
// A tail this many medians long is worth a sentence.
constexpr double kTailMedians = 2;
constexpr size_t kLayersNamed = 8;

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double ShareOf(const CauseTimes& causes, Cause cause) {
  const int64_t sum = std::accumulate(causes.begin(), causes.end(), int64_t{0});
  return Share(causes[static_cast<size_t>(cause)], sum);
}

double ExpertRate(const RunAnalysis& run) {
  uint64_t experts = 0;
  for (const TraceHeader::Layer& layer : run.header.layers) {
    experts += static_cast<uint64_t>(layer.expert_count);
  }
  const int64_t compute_ns = run.latency.causes[static_cast<size_t>(Cause::kExpertCompute)];
  if (experts == 0 || compute_ns == 0 || run.residency.device_experts > 0) return 0;
  const double mean_bytes =
      static_cast<double>(run.header.total_expert_bytes()) / static_cast<double>(experts);
  return mean_bytes * static_cast<double>(run.residency.decode.asked()) * 1e9 /
         static_cast<double>(compute_ns);
}

void AddTail(const RunAnalysis& run, std::vector<Finding>& findings) {
  const GapPercentiles& gaps = run.latency.gaps;
  if (gaps.count == 0) return;
  const double medians = Share(gaps.p99_ns, gaps.p50_ns);
  if (medians < kTailMedians) {
    findings.push_back(
        {false, fmt::format("Even: the slowest hundredth of tokens takes {}, {:.1f} "
                            "times the median of {}.",
                            FormatDuration(gaps.p99_ns), medians, FormatDuration(gaps.p50_ns))});
    return;
  }
  findings.push_back(
      {true, fmt::format("A long tail: the slowest hundredth of tokens takes {} or more, {:.1f} "
                         "times the median of {}. {:.0f} % of their time waits for the drive; of "
                         "all tokens it is {:.0f} %.",
                         FormatDuration(gaps.p99_ns), medians, FormatDuration(gaps.p50_ns),
                         100 * ShareOf(run.latency.slowest_causes, Cause::kWaitDrive),
                         100 * ShareOf(run.latency.causes, Cause::kWaitDrive))});
}

void AddHits(const RunAnalysis& run, std::vector<Finding>& findings) {
  const Residency& residency = run.residency;
  if (!residency.is_known || residency.decode.asked() == 0) return;
  std::string text = fmt::format("{:.1f} % of the experts that decoding asked for were in memory",
                                 100 * residency.decode.hit_rate());
  if (residency.decode_rows > 0 && residency.decode_read_bytes > 0) {
    text += fmt::format(
        "; a token read {} from the drive",
        FormatBytes(residency.decode_read_bytes / static_cast<uint64_t>(residency.decode_rows)));
  }
  findings.push_back({false, text + "."});
}

void AddCollapse(const RunAnalysis& run, std::vector<Finding>& findings) {
  std::vector<int> layers;
  for (const LayerRouting& layer : run.routing.layers) {
    if (layer.has_collapsed) layers.push_back(layer.layer);
  }
  if (layers.empty()) return;
  const size_t count = layers.size();
  layers.resize(std::min(count, kLayersNamed));
  findings.push_back(
      {true, fmt::format("Collapsed: {} {}{} sent nearly all tokens to few experts.",
                         count == 1 ? "layer" : "layers", fmt::join(layers, ", "),
                         count > kLayersNamed ? fmt::format(" and {} more", count - kLayersNamed)
                                              : std::string())});
}

void AddHints(const RunAnalysis& run, std::vector<Finding>& findings) {
  uint64_t used = 0, wasted = 0, wasted_bytes = 0;
  for (const LayerPrefetch& layer : run.residency.prefetch) {
    used += layer.hints_used;
    wasted += layer.hints_wasted;
    wasted_bytes += layer.wasted_bytes;
  }
  if (used + wasted == 0) return;
  const double share = static_cast<double>(used) / static_cast<double>(used + wasted);
  findings.push_back({share < 0.5, fmt::format("Of the experts fetched on a guess {:.0f} % were "
                                               "used; {} were read in vain.",
                                               100 * share, FormatBytes(wasted_bytes))});
}

}  // namespace

RunAnalysis AnalyzeRun(const Trace& trace, const ReportOptions& options) {
  RunAnalysis run = {.header = trace.header,
                     .notice = trace.notice,
                     .latency = AnalyzeLatency(trace),
                     .routing = AnalyzeRouting(trace),
                     .residency = AnalyzeResidency(trace),
                     .drafts = AnalyzeDrafts(trace),
                     .options = options};
  if (run.residency.drive_busy_ns > 0) {
    run.drive_rate = static_cast<double>(run.residency.read_bytes) * 1e9 /
                     static_cast<double>(run.residency.drive_busy_ns);
  }
  run.expert_rate = ExpertRate(run);
  return run;
}

std::vector<Finding> FindingsOf(const RunAnalysis& run) {
  std::vector<Finding> findings;
  if (!run.notice.empty()) findings.push_back({true, run.notice});
  AddTail(run, findings);
  AddHits(run, findings);
  AddCollapse(run, findings);
  AddHints(run, findings);
  const double unattributed = ShareOf(run.latency.causes, Cause::kOther);
  if (unattributed > kUnattributedMax) {
    findings.push_back({true, fmt::format("{:.1f} % of the time has no cause: more than the "
                                          "hundredth that is allowed for.",
                                          100 * unattributed)});
  }
  if (!run.latency.is_timed) {
    findings.push_back({false,
                        "The trace has no times: latency, causes and spikes are left out. What its "
                        "routers chose is all here."});
  }
  return findings;
}

}  // namespace stoker
