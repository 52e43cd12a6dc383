// The heat map of expert use.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

// Levels by how often an expert was used beside what an even split gives it: never, below a
// quarter, below a half, below it, then up to two, four and eight times as often, and beyond.
constexpr size_t kLevels = 8;
constexpr std::array<const char*, kLevels> kLevelNames = {
    "never", "below 1/4", "1/4 to 1/2", "1/2 to 1", "1 to 2", "2 to 4", "4 to 8", "8 and more"};
constexpr int kTopExperts = 8;

size_t LevelOf(int64_t uses, double even) {
  if (uses == 0) return 0;
  const int octave = static_cast<int>(std::floor(std::log2(static_cast<double>(uses) / even)));
  return static_cast<size_t>(std::clamp(octave + 4, 1, static_cast<int>(kLevels) - 1));
}

// One path a level; neighbours of one level in a row are one rectangle.
std::string Shapes(const Routing& routing, int columns) {
  std::array<std::string, kLevels> paths;
  for (size_t row = 0; row < routing.layers.size(); ++row) {
    const LayerRouting& layer = routing.layers[row];
    const double even =
        std::max(1e-9, static_cast<double>(layer.use_count) / std::max(1, layer.expert_count));
    for (int from = 0, to = 0; from < layer.expert_count; from = to) {
      const size_t level = LevelOf(layer.uses[static_cast<size_t>(from)], even);
      while (to < layer.expert_count && LevelOf(layer.uses[static_cast<size_t>(to)], even) == level)
        ++to;
      paths[level] += fmt::format("M{} {}h{}v1h-{}z", from, row, to - from, to - from);
    }
  }
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\" "
      "shape-rendering=\"crispEdges\">",
      columns, routing.layers.size());
  for (size_t level = 0; level < kLevels; ++level) {
    if (!paths[level].empty()) {
      svg += fmt::format("<path class=\"heat-{}\" d=\"{}\"/>", level, paths[level]);
    }
  }
  return svg + "</svg>";
}

HtmlTable TableOf(const Routing& routing) {
  HtmlTable table("table-heat", "Experts used most, by layer",
                  {"Layer", "Most used experts, with their share of the layer's uses"});
  for (const LayerRouting& layer : routing.layers) {
    std::vector<int> order(layer.uses.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&layer](int a, int b) {
      return layer.uses[static_cast<size_t>(a)] > layer.uses[static_cast<size_t>(b)];
    });
    std::vector<std::string> top;
    for (const int expert : order) {
      const int64_t uses = layer.uses[static_cast<size_t>(expert)];
      if (uses == 0 || top.size() == kTopExperts) break;
      top.push_back(fmt::format(
          "{} ({})", expert,
          FormatShare(static_cast<double>(uses) / static_cast<double>(layer.use_count))));
    }
    table.Add({fmt::format("layer {}", layer.layer), fmt::format("{}", fmt::join(top, ", "))});
  }
  return table;
}

// For page.js: the layers' numbers and the uses of their experts.
std::string Numbers(const Routing& routing) {
  std::vector<std::string> rows;
  for (const LayerRouting& layer : routing.layers) {
    rows.push_back(
        fmt::format("{{\"layer\":{},\"uses\":[{}]}}", layer.layer, fmt::join(layer.uses, ",")));
  }
  return fmt::format("<script type=\"application/json\" id=\"heat-numbers\">[{}]</script>\n",
                     fmt::join(rows, ","));
}

std::string Frame(const Routing& routing, int columns) {
  std::string y_ticks, x_ticks;
  const double rows = static_cast<double>(routing.layers.size());
  const size_t stride = (routing.layers.size() + 11) / 12;
  for (size_t row = 0; row < routing.layers.size(); row += stride) {
    y_ticks +=
        fmt::format("<span style=\"bottom:{:.2f}%\">{}</span>",
                    100 - (static_cast<double>(row) + 0.5) / rows * 100, routing.layers[row].layer);
  }
  for (const Tick& tick : Axis::Linear(0, columns).Ticks(6, LabelNumber)) {
    if (tick.at >= 1) continue;
    x_ticks += fmt::format("<span style=\"left:{:.2f}%\">{}</span>", tick.at * 100 + 50.0 / columns,
                           tick.label);
  }
  return fmt::format(
      "<p class=\"y-title\" aria-hidden=\"true\">layer</p>\n"
      "<div class=\"plot heat\" role=\"group\" aria-roledescription=\"picture\" tabindex=\"0\" "
      "aria-label=\"Heat map of expert use. Arrow keys read it expert by expert.\" "
      "data-heat=\"heat-numbers\" data-columns=\"{0}\" style=\"--rows:{1}\">"
      "<div class=\"axis-y\" aria-hidden=\"true\">{2}</div>"
      "<div class=\"area\">{3}<div class=\"cell\" hidden></div></div>"
      "<div class=\"axis-x\" aria-hidden=\"true\">{4}</div></div>\n{5}",
      columns, routing.layers.size(), y_ticks, Shapes(routing, columns), x_ticks,
      RenderBelow("expert"));
}

}  // namespace

Section HeatSection(const RunAnalysis& run) {
  Section section = {.id = "use", .title = "Use of experts"};
  int columns = 1;
  for (const LayerRouting& layer : run.routing.layers) {
    columns = std::max(columns, layer.expert_count);
  }
  if (run.routing.row_count == 0 || run.routing.layers.empty()) {
    section.html = Missing("No routing is in the trace.");
    return section;
  }
  std::vector<LegendEntry> legend;
  for (size_t level = 0; level < kLevels; ++level) {
    legend.push_back({fmt::format("heat-{}", level), kLevelNames[level]});
  }
  section.html =
      "<figure id=\"heat\"><figcaption><b>How often each expert was chosen</b><span>Beside an even "
      "split over its layer: 1 is as often as that. Prompt and decode together.</span>"
      "</figcaption>\n" +
      RenderLegend(legend) + Frame(run.routing, columns) + TableOf(run.routing).RenderFolded() +
      "</figure>\n" + Numbers(run.routing);
  return section;
}

}  // namespace stoker
