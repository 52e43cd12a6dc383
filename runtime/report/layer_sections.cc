// What differs by layer: hits, reuse, prefetch and entropy, drawn.
#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

template <typename Layer>
std::vector<Tick> LayerTicks(const std::vector<Layer>& layers) {
  std::vector<std::string> labels;
  for (const Layer& layer : layers) labels.push_back(fmt::format("{}", layer.layer));
  return LabelEach(labels);
}

std::string TierTiles(const std::string& phase, const TierHits& hits, bool has_vram) {
  if (hits.asked() == 0) return "";
  const double asked = static_cast<double>(hits.asked());
  std::string tiles;
  if (has_vram) {
    tiles += Tile(phase + ": in VRAM", FormatShare(static_cast<double>(hits.vram) / asked),
                  fmt::format("{} experts", hits.vram));
  }
  tiles += Tile(phase + ": in RAM", FormatShare(static_cast<double>(hits.ram) / asked),
                fmt::format("{} experts", hits.ram));
  return tiles + Tile(phase + ": from the drive",
                      FormatShare(static_cast<double>(hits.misses) / asked),
                      fmt::format("{} experts", hits.misses));
}

std::string HitsPicture(const Residency& residency, bool has_vram) {
  HtmlTable table(
      "table-hits", "Where experts were, by layer",
      {"Layer", "Asked for", "In VRAM", "In RAM", "From the drive", "Hit rate", "Read for it"});
  std::vector<double> zeros(residency.layers.size(), 0), vram, ram, all;
  for (const LayerResidency& layer : residency.layers) {
    const TierHits& hits = layer.hits;
    const double asked = static_cast<double>(std::max<uint64_t>(1, hits.asked()));
    vram.push_back(static_cast<double>(hits.vram) / asked);
    ram.push_back(static_cast<double>(hits.vram + hits.ram) / asked);
    all.push_back(hits.asked() == 0 ? 0 : 1);
    table.Add({fmt::format("layer {}", layer.layer), fmt::format("{}", hits.asked()),
               fmt::format("{}", hits.vram), fmt::format("{}", hits.ram),
               fmt::format("{}", hits.misses), FormatShare(hits.hit_rate()),
               FormatBytes(layer.read_bytes)});
  }
  std::vector<LegendEntry> legend = {{"c-drive", "from the drive"}, {"c-expert", "in RAM"}};
  if (has_vram) legend.push_back({"c-dense", "in VRAM when the step began"});
  return Render({.id = "hits-by-layer",
                 .title = "Where experts were when a step asked, by layer",
                 .summary = "Prompt and decode together; an expert counts once a step and layer.",
                 .legend = RenderLegend(legend),
                 .shapes = DrawColumns(zeros, vram, "c-dense") +
                           DrawColumns(vram, ram, "c-expert") + DrawColumns(ram, all, "c-drive"),
                 .x_ticks = LayerTicks(residency.layers),
                 .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
                 .x_title = "layer",
                 .y_title = "share of experts asked for",
                 .table = &table});
}

std::string RoomPicture(const Routing& routing) {
  HtmlTable table("table-room", "What room for a share of each layer's experts would hit",
                  {"Room", "Hits"});
  std::vector<double> xs;
  for (size_t percent = 0; percent < routing.hit_by_room.size(); ++percent) {
    xs.push_back(static_cast<double>(percent) / 100);
    table.Add({fmt::format("{} %", percent), FormatShare(routing.hit_by_room[percent])});
  }
  return Render(
      {.id = "reuse-room",
       .title = "Hits by room, from reuse distances",
       .summary = fmt::format(
           "With room for a quarter of each layer's experts, {} of uses would find theirs "
           "if the least recently used always went; with half, {}.",
           FormatShare(routing.hit_by_room[25]), FormatShare(routing.hit_by_room[50])),
       .shapes = DrawCurve(xs, routing.hit_by_room, "s-a"),
       .x_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
       .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
       .x_title = "room, as a share of a layer's experts",
       .y_title = "uses that would hit",
       .table = &table});
}

std::string ReusePicture(const Routing& routing) {
  HtmlTable table("table-reuse", "Reuse distance by layer, in other experts of the layer",
                  {"Layer", "Half of uses within", "Nine tenths within", "First uses", "Experts"});
  std::vector<double> half, most;
  for (const LayerRouting& layer : routing.layers) {
    const double experts = std::max(1, layer.expert_count);
    half.push_back(layer.reuse_p50 / experts);
    most.push_back(layer.reuse_p90 / experts);
    table.Add({fmt::format("layer {}", layer.layer), fmt::format("{}", layer.reuse_p50),
               fmt::format("{}", layer.reuse_p90), fmt::format("{}", layer.first_uses),
               fmt::format("{}", layer.expert_count)});
  }
  return Render({.id = "reuse-by-layer",
                 .title = "Reuse distance by layer",
                 .summary = "How many other experts of the layer were used before one came again.",
                 .legend = RenderLegend(
                     {{{"s-a", "half of uses within", true}, {"s-b", "nine tenths within", true}}}),
                 .shapes = DrawBand(half, most, "s-a") + DrawLine(half, "s-a") +
                           DrawDots(half, "s-a") + DrawLine(most, "s-b") + DrawDots(most, "s-b"),
                 .x_ticks = LayerTicks(routing.layers),
                 .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
                 .x_title = "layer",
                 .y_title = "share of the layer's experts",
                 .table = &table});
}

std::string GuessPicture(const Residency& residency) {
  HtmlTable table("table-guesses", "Guesses of routers ahead, by layer guessed for",
                  {"Layer", "Recall", "Precision", "Guesses"});
  std::vector<double> recall, precision;
  for (const LayerPrefetch& layer : residency.prefetch) {
    recall.push_back(layer.chosen == 0 ? -1 : layer.recall());
    precision.push_back(layer.guessed == 0 ? -1 : layer.precision());
    table.Add({fmt::format("layer {}", layer.layer),
               layer.chosen == 0 ? std::string("none") : FormatShare(layer.recall()),
               layer.guessed == 0 ? std::string("none") : FormatShare(layer.precision()),
               fmt::format("{}", layer.guessed)});
  }
  return Render(
      {.id = "guesses",
       .title = "Recall and precision of guesses, by layer guessed for",
       .summary = "Recall is the share of chosen experts that were guessed, precision the share of "
                  "guesses that were chosen.",
       .legend = RenderLegend({{{"s-a", "recall", true}, {"s-b", "precision", true}}}),
       .shapes = DrawLine(recall, "s-a") + DrawDots(recall, "s-a") + DrawLine(precision, "s-b") +
                 DrawDots(precision, "s-b"),
       .x_ticks = LayerTicks(residency.prefetch),
       .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
       .x_title = "layer",
       .y_title = "share",
       .table = &table});
}

std::string HintPicture(const Residency& residency) {
  HtmlTable table(
      "table-hints", "What came of hints, by layer",
      {"Layer", "Read on a guess", "Used", "On time", "Late", "Never used", "Dropped", "Wasted"});
  uint64_t most = 1;
  for (const LayerPrefetch& layer : residency.prefetch) {
    most = std::max(most, layer.hints_used + layer.hints_wasted);
  }
  const Axis y = Axis::Linear(0, static_cast<double>(most) * 1.05);
  std::vector<double> zeros(residency.prefetch.size(), 0), on_time, used, all;
  for (const LayerPrefetch& layer : residency.prefetch) {
    on_time.push_back(y.At(static_cast<double>(layer.hints_used - layer.hints_late)));
    used.push_back(y.At(static_cast<double>(layer.hints_used)));
    all.push_back(y.At(static_cast<double>(layer.hints_used + layer.hints_wasted)));
    table.Add({fmt::format("layer {}", layer.layer), fmt::format("{}", layer.hints_read),
               fmt::format("{}", layer.hints_used),
               layer.hints_used == 0 ? std::string("none") : FormatShare(layer.on_time()),
               fmt::format("{}", layer.hints_late), fmt::format("{}", layer.hints_wasted),
               fmt::format("{}", layer.hints_dropped), FormatBytes(layer.wasted_bytes)});
  }
  return Render(
      {.id = "hints",
       .title = "What came of hints, by layer",
       .summary = "Experts brought on a guess: used in time, used late, or evicted unused.",
       .legend = RenderLegend({{{"c-drive", "never used"},
                                {"c-copy", "used, but late"},
                                {"c-dense", "used in time"}}}),
       .shapes = DrawColumns(zeros, on_time, "c-dense") + DrawColumns(on_time, used, "c-copy") +
                 DrawColumns(used, all, "c-drive"),
       .x_ticks = LayerTicks(residency.prefetch),
       .y_ticks = y.Ticks(4, LabelNumber),
       .x_title = "layer",
       .y_title = "experts",
       .table = &table});
}

std::string EntropyPicture(const Routing& routing) {
  HtmlTable table("table-entropy", "Entropy of routing by layer",
                  {"Layer", "Entropy", "Bits", "Effective experts", "Half of uses go to", "Unused",
                   "Uses", "Collapsed"});
  std::vector<double> zeros(routing.layers.size(), 0), even, collapsed;
  for (const LayerRouting& layer : routing.layers) {
    even.push_back(layer.has_collapsed ? 0 : layer.entropy);
    collapsed.push_back(layer.has_collapsed ? layer.entropy : 0);
    table.Add({fmt::format("layer {}", layer.layer), fmt::format("{:.3f}", layer.entropy),
               fmt::format("{:.2f}", layer.entropy_bits),
               fmt::format("{:.1f} of {}", layer.effective_experts, layer.expert_count),
               fmt::format("{} experts", layer.half_experts),
               fmt::format("{}", layer.unused_experts), fmt::format("{}", layer.use_count),
               layer.has_collapsed ? "yes" : "no"});
  }
  std::vector<LegendEntry> legend = {{"c-expert", "entropy"}};
  if (std::any_of(collapsed.begin(), collapsed.end(), [](double e) { return e > 0; })) {
    legend.push_back({"c-drive", "collapsed"});
  }
  return Render(
      {.id = "entropy-by-layer",
       .title = "Entropy of routing by layer",
       .summary = "1 is an even split over all experts of the layer.",
       .legend = RenderLegend(legend),
       .shapes = DrawColumns(zeros, even, "c-expert") + DrawColumns(zeros, collapsed, "c-drive"),
       .x_ticks = LayerTicks(routing.layers),
       .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelNumber),
       .x_title = "layer",
       .y_title = "entropy of uses by that of an even split",
       .table = &table});
}

std::string CollapseWarnings(const Routing& routing) {
  std::string html;
  for (const LayerRouting& layer : routing.layers) {
    if (!layer.has_collapsed) continue;
    html += fmt::format(
        "<p class=\"warning\">Layer {} has collapsed: its {} uses are spread over {:.1f} effective "
        "experts of {}; half of them go to {}. Its experts are trained or quantized badly, or the "
        "text is of one kind.</p>\n",
        layer.layer, layer.use_count, layer.effective_experts, layer.expert_count,
        layer.half_experts == 1 ? std::string("one")
                                : fmt::format("{} experts", layer.half_experts));
  }
  return html;
}

}  // namespace

Section HitsSection(const RunAnalysis& run) {
  Section section = {.id = "hits", .title = "Hit rate by tier and layer"};
  const Residency& residency = run.residency;
  if (!residency.is_known) {
    section.html = Missing("The trace does not say what was in memory.");
    return section;
  }
  const bool has_vram = residency.decode.vram + residency.prompt.vram > 0;
  section.html = Tiles(TierTiles("decode", residency.decode, has_vram) +
                       TierTiles("prompt", residency.prompt, has_vram));
  if (has_vram) {
    section.html += fmt::format(
        "<p>The device computed {} experts, the processor {}; {} were copied to the device, {} "
        "from it.</p>\n",
        residency.device_experts, residency.host_experts, FormatBytes(residency.copied_in_bytes),
        FormatBytes(residency.copied_out_bytes));
  }
  section.html += residency.layers_known
                      ? HitsPicture(residency, has_vram)
                      : Missing("The trace counts hits of whole steps; by layer it says nothing.");
  return section;
}

Section ReuseSection(const RunAnalysis& run) {
  Section section = {.id = "reuse", .title = "Reuse distances"};
  section.html = run.routing.row_count == 0 ? Missing("No routing is in the trace.")
                                            : RoomPicture(run.routing) + ReusePicture(run.routing);
  return section;
}

Section PrefetchSection(const RunAnalysis& run) {
  Section section = {.id = "prefetch", .title = "Prefetch"};
  const Residency& residency = run.residency;
  if (!residency.has_lookahead && !residency.has_hints) {
    section.html = Missing("Nothing was prefetched in this run.");
    return section;
  }
  if (residency.has_lookahead) section.html += GuessPicture(residency);
  section.html += residency.has_hints ? HintPicture(residency)
                                      : Missing("Guesses were made, but no hint came of them.");
  return section;
}

Section EntropySection(const RunAnalysis& run) {
  Section section = {.id = "entropy", .title = "Evenness of routing"};
  section.html = run.routing.row_count == 0
                     ? Missing("No routing is in the trace.")
                     : CollapseWarnings(run.routing) + EntropyPicture(run.routing);
  return section;
}

}  // namespace stoker
