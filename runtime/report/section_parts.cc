// What several sections draw alike, and the table of facts at the top.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/units.h"
#include "runtime/report/cause_group.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

constexpr double kShareShown = 0.001;

double ShareOf(const CauseGroup& group, const CauseTimes& causes) {
  const int64_t sum = std::accumulate(causes.begin(), causes.end(), int64_t{0});
  return static_cast<double>(TimeOf(group, causes)) /
         static_cast<double>(std::max<int64_t>(1, sum));
}

class Facts {
 public:
  void Add(const std::string& name, const std::string& value) {
    if (value.empty()) return;
    html_ +=
        fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", EscapeHtml(name), EscapeHtml(value));
  }
  std::string Render() const { return "<dl class=\"facts\">\n" + html_ + "</dl>\n"; }

 private:
  std::string html_;
};

std::string Experts(const TraceHeader& header) {
  if (header.layers.empty()) return "";
  int least = header.layers[0].expert_count, most = least;
  for (const TraceHeader::Layer& layer : header.layers) {
    least = std::min(least, layer.expert_count);
    most = std::max(most, layer.expert_count);
  }
  return fmt::format("{} layers of {}{}", header.layers.size(),
                     least == most ? fmt::format("{} experts", most)
                                   : fmt::format("{} to {} experts", least, most),
                     header.top_k > 0 ? fmt::format(", {} a token", header.top_k) : std::string());
}

std::string Budget(uint64_t bytes, const TraceHeader& header) {
  if (bytes == 0) return "";
  const uint64_t all = header.total_expert_bytes();
  if (all <= header.layers.size() * 1024) return FormatBytes(bytes);  // sizes are not known
  return fmt::format(
      "{}, {} of all experts", FormatBytes(bytes),
      FormatShare(std::min(1.0, static_cast<double>(bytes) / static_cast<double>(all))));
}

std::string Beside(double rate, double ceiling, std::string_view flag) {
  if (rate == 0) return "";
  if (ceiling == 0) return fmt::format("{}; no ceiling given ({})", FormatRate(rate), flag);
  return fmt::format("{}, {:.0f} % of the {} measured", FormatRate(rate), 100 * rate / ceiling,
                     FormatRate(ceiling));
}

}  // namespace

std::string Missing(const std::string& sentence) {
  return "<p class=\"missing\">" + EscapeHtml(sentence) + "</p>\n";
}

std::string Tile(const std::string& name, const std::string& value, const std::string& note) {
  return fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>", EscapeHtml(name), EscapeHtml(value),
                     note.empty() ? std::string() : "<small>" + EscapeHtml(note) + "</small>");
}

std::string Tiles(const std::string& tiles) { return "<dl class=\"tiles\">" + tiles + "</dl>\n"; }

std::string FormatShare(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string CauseBar(const std::string& name, const CauseTimes& causes) {
  std::string parts, words;
  for (const CauseGroup& group : CauseGroups()) {
    const double share = ShareOf(group, causes);
    if (share < kShareShown) continue;
    parts +=
        fmt::format("<span class=\"{}\" style=\"width:{:.2f}%\"></span>", group.style, share * 100);
    words += fmt::format("{}{} {}", words.empty() ? "" : ", ", group.label, FormatShare(share));
  }
  return fmt::format(
      "{}<div class=\"bar\" role=\"img\" aria-label=\"{}{}\" title=\"{}\">{}</div>\n",
      name.empty() ? std::string() : "<p class=\"bar-name\">" + EscapeHtml(name) + "</p>",
      name.empty() ? std::string("Time by cause: ") : EscapeHtml(name) + ": ", words, words, parts);
}

std::string CauseLegend(const CauseTimes& causes) {
  std::vector<LegendEntry> entries;
  const absl::Span<const CauseGroup> groups = CauseGroups();
  for (auto group = groups.rbegin(); group != groups.rend(); ++group) {  // as stacked, from the top
    const double share = ShareOf(*group, causes);
    if (share < kShareShown) continue;
    entries.push_back(
        {std::string(group->style), fmt::format("{} {}", group->label, FormatShare(share))});
  }
  return RenderLegend(entries);
}

Section FactsSection(const RunAnalysis& run) {
  const TraceHeader& header = run.header;
  const Latency& latency = run.latency;
  Facts facts;
  facts.Add("Model", header.model.empty() ? "not named in the trace" : header.model);
  if (header.model_hash != 0) facts.Add("Identity", fmt::format("{:016x}", header.model_hash));
  facts.Add("Trace", header.format == "stoker"
                         ? std::string("recorded by stoker run --trace")
                         : fmt::format("another program's ({})", header.format));
  facts.Add("Experts", Experts(header));
  facts.Add("RAM for experts", Budget(header.budget_bytes, header));
  facts.Add("VRAM for experts", Budget(header.vram_budget_bytes, header));
  facts.Add("Policy", header.policy);
  facts.Add("Admission", header.admission);
  facts.Add("Prefetch", header.prefetch);
  facts.Add("Prompt", latency.prompt_rows == 0
                          ? std::string()
                          : fmt::format("{} tokens{}", latency.prompt_rows,
                                        latency.prompt_wall_ns == 0
                                            ? std::string()
                                            : " in " + FormatDuration(latency.prompt_wall_ns)));
  facts.Add("Decoded",
            fmt::format("{} tokens{}", latency.tokens,
                        latency.wall_ns == 0 ? std::string()
                                             : fmt::format(" in {}, {:.1f} tokens/s",
                                                           FormatDuration(latency.wall_ns),
                                                           latency.tokens_per_second())));
  facts.Add("Drive while reading",
            Beside(run.drive_rate, run.options.drive_ceiling, "--drive-ceiling"));
  facts.Add("Experts' weights from memory",
            Beside(run.expert_rate, run.options.memory_ceiling, "--memory-ceiling"));

  std::string html = "<ul class=\"findings\">";
  for (const Finding& finding : FindingsOf(run)) {
    html += fmt::format("<li{}>{}</li>", finding.is_warning ? " class=\"warning\"" : "",
                        EscapeHtml(finding.text));
  }
  html += "</ul>\n" + facts.Render();
  if (!header.settings.empty()) {
    html += "<details><summary>All options of the run</summary><pre tabindex=\"0\">" +
            EscapeHtml(header.settings) + "</pre></details>\n";
  }
  return {.id = "run", .title = "The run", .html = html};
}

}  // namespace stoker
