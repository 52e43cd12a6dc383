// Latency, time by cause and spikes, drawn.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/units.h"
#include "runtime/report/cause_group.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

// A picture over time is logarithmic when its longest time is so many medians.
constexpr double kLogMedians = 8;
// Stacks are cut off at so many times what nine tenths of them stay below.
constexpr double kStackCut = 2.5;
constexpr size_t kSpikesOpen = 3;

int64_t SumOf(const CauseTimes& causes) {
  return std::accumulate(causes.begin(), causes.end(), int64_t{0});
}

std::string Untimed() {
  return Missing("The trace does not say how long its steps took, so there is nothing to draw.");
}

// "412", or "400 to 415" of a longer run.
std::string NameOf(const TimeBucket& bucket) {
  if (bucket.step_count == 1) return fmt::format("{}", bucket.first_step + 1);
  return fmt::format("{} to {}", bucket.first_step + 1, bucket.first_step + bucket.step_count);
}

std::vector<Tick> StepTicks(const Latency& latency) {
  const Axis axis = Axis::Linear(0, static_cast<double>(latency.decode_steps));
  return axis.Ticks(6, LabelNumber);
}

// Links over the picture that lead to the spikes below.
std::string SpikeMarks(const Latency& latency, const Axis& axis) {
  const double buckets = static_cast<double>(latency.buckets.size());
  std::string html;
  for (size_t i = 0; i < latency.spikes.size(); ++i) {
    const Spike& spike = latency.spikes[i];
    const double bucket = std::floor(static_cast<double>(spike.decode_step) /
                                     static_cast<double>(latency.bucket_steps));
    html += fmt::format(
        "<a class=\"mark\" href=\"#spike-{}\" style=\"left:{:.2f}%;bottom:{:.2f}%\" "
        "aria-label=\"Spike {}: {} at token {}, {}\"></a>",
        i + 1, (bucket + 0.5) / buckets * 100, axis.At(static_cast<double>(spike.wall_ns)) * 100,
        i + 1, FormatDuration(spike.wall_ns), spike.decode_step + 1, LabelOf(spike.excess_cause));
  }
  return html;
}

Axis LatencyAxis(const Latency& latency) {
  const double longest = static_cast<double>(latency.gaps.max_ns);
  if (longest < kLogMedians * static_cast<double>(latency.gaps.p50_ns)) {
    return Axis::Linear(0, longest * 1.05);
  }
  const int64_t shortest = std::min_element(latency.buckets.begin(), latency.buckets.end(),
                                            [](const TimeBucket& a, const TimeBucket& b) {
                                              return a.median_ns < b.median_ns;
                                            })
                               ->median_ns;
  return Axis::Log(std::max(1.0, static_cast<double>(shortest) * 0.8), longest * 1.1);
}

std::string OverTime(const Latency& latency) {
  HtmlTable table("table-latency", "Time between tokens over the run",
                  {"Token", "Median", "Longest"});
  const Axis axis = LatencyAxis(latency);
  std::vector<double> medians, longest;
  for (const TimeBucket& bucket : latency.buckets) {
    table.Add({NameOf(bucket), FormatDuration(bucket.median_ns), FormatDuration(bucket.max_ns)});
    medians.push_back(axis.At(static_cast<double>(bucket.median_ns)));
    longest.push_back(axis.At(static_cast<double>(bucket.max_ns)));
  }
  const bool is_single = latency.bucket_steps == 1;
  Picture picture = {
      .id = "latency-over-time",
      .title = "Time between tokens over the run",
      .summary = fmt::format(
          "{}; the median of all is {}, the longest {}. Rings lead to the spikes.",
          is_single ? std::string("Each token")
                    : fmt::format("Medians and longest of {} tokens each", latency.bucket_steps),
          FormatDuration(latency.gaps.p50_ns), FormatDuration(latency.gaps.max_ns)),
      .marks = SpikeMarks(latency, axis),
      .x_ticks = StepTicks(latency),
      .y_ticks = axis.Ticks(5, LabelDuration),
      .x_title = "decode step",
      .y_title = axis.is_log() ? "time between tokens (log scale)" : "time between tokens",
      .table = &table};
  if (!is_single) {
    picture.shapes = DrawBand(medians, longest, "s-a");
    picture.legend = RenderLegend({{{"s-a", "median", true}, {"s-a faint", "up to the longest"}}});
  }
  picture.shapes += DrawLine(medians, "s-a");
  return Render(picture);
}

std::string Histogram(const Latency& latency) {
  HtmlTable table("table-histogram", "How often each time between tokens came",
                  {"From", "To", "Tokens"});
  const Axis x = Axis::Log(std::max(1.0, static_cast<double>(latency.histogram.front().from_ns)),
                           std::max(2.0, static_cast<double>(latency.histogram.back().to_ns)));
  int64_t most = 1;
  for (const GapBin& bin : latency.histogram) most = std::max(most, bin.count);
  // From half a token, so that one token shows.
  const Axis y = Axis::Log(0.5, static_cast<double>(most) * 1.3);
  std::vector<double> lows, highs;
  for (const GapBin& bin : latency.histogram) {
    table.Add(
        {FormatDuration(bin.from_ns), FormatDuration(bin.to_ns), fmt::format("{}", bin.count)});
    lows.push_back(0);
    highs.push_back(bin.count == 0 ? 0 : y.At(static_cast<double>(bin.count)));
  }
  Picture picture = {
      .id = "latency-histogram",
      .title = "How often each time came",
      .summary = fmt::format("{} tokens; lines at p50, p90, p99 and p99.9.", latency.gaps.count),
      .shapes = DrawColumns(lows, highs, "s-a"),
      .x_ticks = x.Ticks(5, LabelDuration),
      .y_ticks = y.Ticks(4, LabelNumber),
      .x_title = "time between tokens (log scale)",
      .y_title = "tokens (log scale)",
      .table = &table};
  std::erase_if(picture.y_ticks, [&y](const Tick& tick) { return tick.at < y.At(1) * 0.99; });
  const std::pair<const char*, int64_t> lines[] = {{"p50", latency.gaps.p50_ns},
                                                   {"p90", latency.gaps.p90_ns},
                                                   {"p99", latency.gaps.p99_ns},
                                                   {"p99.9", latency.gaps.p999_ns}};
  int row = 0;
  for (const auto& [name, ns] : lines) {
    const double at = x.At(static_cast<double>(ns));
    picture.shapes += DrawUpright(at, "s-mark");
    picture.marks += fmt::format("<span class=\"tag\" style=\"{}:{:.2f}%;top:{:.1f}em\">{}</span>",
                                 at > 0.5 ? "right" : "left", at > 0.5 ? 100 - at * 100 : at * 100,
                                 1.3 * row++, name);
  }
  return Render(picture);
}

std::string Stack(const Latency& latency) {
  std::vector<std::string> columns = {"Token"};
  for (const CauseGroup& group : CauseGroups()) columns.emplace_back(group.label);
  HtmlTable table("table-causes", "Time by cause over the run, mean of a step", columns);
  std::vector<int64_t> walls;
  for (const TimeBucket& bucket : latency.buckets) walls.push_back(SumOf(bucket.causes));
  std::vector<int64_t> sorted = walls;
  std::sort(sorted.begin(), sorted.end());
  const double most = static_cast<double>(sorted.back());
  const double cut = kStackCut * static_cast<double>(sorted[(sorted.size() - 1) * 9 / 10]);
  const Axis y = Axis::Linear(0, std::max(1.0, std::min(most, cut) * 1.03));
  const auto cut_off = std::count_if(walls.begin(), walls.end(), [&y](int64_t wall) {
    return static_cast<double>(wall) > y.to();
  });
  std::string shapes;
  std::vector<int64_t> below(latency.buckets.size());
  for (const CauseGroup& group : CauseGroups()) {
    std::vector<double> lows, highs;
    for (size_t i = 0; i < latency.buckets.size(); ++i) {
      lows.push_back(y.At(static_cast<double>(below[i])));
      below[i] += TimeOf(group, latency.buckets[i].causes);
      highs.push_back(y.At(static_cast<double>(below[i])));
    }
    shapes += DrawColumns(lows, highs, std::string(group.style));
  }
  for (const TimeBucket& bucket : latency.buckets) {
    std::vector<std::string> cells = {NameOf(bucket)};
    for (const CauseGroup& group : CauseGroups()) {
      cells.push_back(FormatDuration(TimeOf(group, bucket.causes)));
    }
    table.Add(cells);
  }
  std::string summary =
      latency.bucket_steps == 1
          ? "One column a token."
          : fmt::format("One column is the mean of {} tokens.", latency.bucket_steps);
  if (cut_off > 0) {
    summary += fmt::format(" {} columns go beyond the scale, the highest to {}.", cut_off,
                           FormatDuration(sorted.back()));
  }
  return Render({.id = "causes-over-time",
                 .title = "Time by cause over the run",
                 .summary = summary,
                 .legend = CauseLegend(latency.causes),
                 .shapes = shapes,
                 .x_ticks = StepTicks(latency),
                 .y_ticks = y.Ticks(5, LabelDuration),
                 .x_title = "decode step",
                 .y_title = "time of a step",
                 .table = &table});
}

std::string CauseTable(const Latency& latency) {
  HtmlTable table("table-cause-sums", "Time by cause, all decode steps",
                  {"Cause", "A token", "Share", "Of the slowest hundredth"});
  const int64_t sum = std::max<int64_t>(1, SumOf(latency.causes));
  const int64_t slowest = std::max<int64_t>(1, SumOf(latency.slowest_causes));
  for (size_t c = 0; c < latency.causes.size(); ++c) {
    table.Add({std::string(LabelOf(static_cast<Cause>(c))),
               FormatDuration(latency.causes[c] / std::max<int64_t>(1, latency.tokens)),
               FormatShare(static_cast<double>(latency.causes[c]) / static_cast<double>(sum)),
               FormatShare(static_cast<double>(latency.slowest_causes[c]) /
                           static_cast<double>(slowest))});
  }
  return table.RenderFolded();
}

// In the step `step`.
std::string WhyAbsent(const MissRecord& miss, int64_t step) {
  switch (miss.reason) {
    case MissReason::kNeverSeen:
      return "never seen before";
    case MissReason::kEvicted: {
      const int64_t steps_ago = step - miss.evicted_step;
      if (miss.evicted_step < 0) return "evicted before";
      if (steps_ago == 0) return "evicted in this very step";
      return fmt::format("evicted at step {}, {} step{} before", miss.evicted_step, steps_ago,
                         steps_ago == 1 ? "" : "s");
    }
    case MissReason::kHintLate:
      return "guessed, but the hint came late";
    case MissReason::kHintDropped:
      return "guessed, but the hint was dropped";
  }
  return "";
}

std::string SpikeCard(const Spike& spike, size_t number, int64_t median_ns) {
  std::string html = fmt::format(
      "<li id=\"spike-{}\" tabindex=\"-1\"><h3>{} <small>token {}, step {}: {:.1f} medians</small>"
      "</h3><p>{} more than usual {}; {} of {} experts were missing.</p>\n",
      number, FormatDuration(spike.wall_ns), spike.decode_step + 1, spike.step,
      static_cast<double>(spike.wall_ns) / static_cast<double>(std::max<int64_t>(1, median_ns)),
      FormatDuration(spike.excess_ns), LabelOf(spike.excess_cause), spike.misses,
      spike.hits + spike.misses);
  html += CauseBar("", spike.causes);
  if (spike.worst_misses.empty()) return html + "</li>\n";
  html += fmt::format("<details{}><summary>Slowest experts</summary><ul>",
                      number <= kSpikesOpen ? " open" : "");
  for (const MissRecord& miss : spike.worst_misses) {
    html += fmt::format("<li>layer {} expert {}: {}; {} read in {}</li>", miss.id.layer,
                        miss.id.expert, WhyAbsent(miss, spike.step), FormatBytes(miss.read_bytes),
                        FormatDuration(miss.read_ns));
  }
  return html + "</ul></details></li>\n";
}

}  // namespace

Section LatencySection(const RunAnalysis& run) {
  Section section = {.id = "latency", .title = "Time between tokens"};
  const Latency& latency = run.latency;
  if (latency.buckets.empty()) {
    section.html = latency.is_timed ? Missing("Nothing was decoded in this run.") : Untimed();
    return section;
  }
  section.html = Tiles(Tile("p50", FormatDuration(latency.gaps.p50_ns)) +
                       Tile("p90", FormatDuration(latency.gaps.p90_ns)) +
                       Tile("p99", FormatDuration(latency.gaps.p99_ns)) +
                       Tile("p99.9", FormatDuration(latency.gaps.p999_ns)) +
                       Tile("longest", FormatDuration(latency.gaps.max_ns))) +
                 OverTime(latency) + Histogram(latency);
  return section;
}

Section CausesSection(const RunAnalysis& run) {
  Section section = {.id = "causes", .title = "Time by cause"};
  if (run.latency.buckets.empty()) {
    section.html = Missing("No decode step with a time is in the trace.");
    return section;
  }
  section.html = Stack(run.latency) + "<div class=\"bars\">" +
                 CauseBar("all decode steps", run.latency.causes) +
                 CauseBar("slowest hundredth", run.latency.slowest_causes) + "</div>\n" +
                 CauseTable(run.latency);
  return section;
}

Section SpikesSection(const RunAnalysis& run) {
  Section section = {.id = "spikes", .title = "Worst spikes"};
  if (run.latency.spikes.empty()) {
    section.html = Missing(fmt::format("No token took more than {} medians.", kSpikeMedians));
    if (!run.latency.is_timed) section.html = Untimed();
    return section;
  }
  section.html = fmt::format(
      "<p>Tokens that took more than {} medians, the worst {} of them; for each what took longer "
      "than it usually does, and the experts that it waited for longest.</p><ol class=\"spikes\">",
      kSpikeMedians, run.latency.spikes.size());
  for (size_t i = 0; i < run.latency.spikes.size(); ++i) {
    section.html += SpikeCard(run.latency.spikes[i], i + 1, run.latency.gaps.p50_ns);
  }
  section.html += "</ol>\n";
  return section;
}

}  // namespace stoker
