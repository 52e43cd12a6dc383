// Two runs side by side, drawn.
#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "runtime/report/html.h"
#include "runtime/report/plot.h"
#include "runtime/report/sections.h"

namespace stoker {
namespace {

std::vector<LegendEntry> BothLegend() { return {{"s-a", "A", true}, {"s-b", "B", true}}; }

// How B stands to A; "same" within half a hundredth.
std::string Change(double a, double b) {
  if (a == 0 || b == 0) return "";
  const double change = b / a - 1;
  if (change > -0.005 && change < 0.005) return "same";
  return fmt::format("{:+.0f} %", 100 * change);
}

class NumbersTable {
 public:
  void AddTimes(const std::string& name, int64_t a, int64_t b) {
    table_.Add({name, a == 0 ? "–" : FormatDuration(a), b == 0 ? "–" : FormatDuration(b),
                Change(static_cast<double>(a), static_cast<double>(b))});
  }
  void AddShares(const std::string& name, bool known_a, double a, bool known_b, double b) {
    table_.Add({name, known_a ? FormatShare(a) : "–", known_b ? FormatShare(b) : "–",
                known_a && known_b ? fmt::format("{:+.1f} points", 100 * (b - a)) : ""});
  }
  void Add(const std::string& name, const std::string& a, const std::string& b,
           const std::string& change = "") {
    table_.Add({name, a, b, change});
  }
  std::string Render() const { return table_.Render(); }

 private:
  HtmlTable table_{"table-both", "Both runs in numbers", {"", "A", "B", "B beside A"}};
};

double MeanEntropy(const Routing& routing) {
  double sum = 0;
  for (const LayerRouting& layer : routing.layers) sum += layer.entropy;
  return routing.layers.empty() ? 0 : sum / static_cast<double>(routing.layers.size());
}

std::string ReadPerToken(const Residency& residency) {
  if (!residency.is_known || residency.decode_rows == 0) return "–";
  return FormatBytes(residency.decode_read_bytes / static_cast<uint64_t>(residency.decode_rows));
}

std::string NameOr(const std::string& name, const char* otherwise) {
  return name.empty() ? otherwise : name;
}

// Shares of tokens that took at most as long, at the ends of a run's bins.
std::string Cumulative(const Latency& latency, const Axis& x, const std::string& style) {
  std::vector<double> xs, ys;
  int64_t seen = 0;
  if (latency.histogram.empty()) return "";
  xs.push_back(x.At(static_cast<double>(latency.histogram.front().from_ns)));
  ys.push_back(0);
  for (const GapBin& bin : latency.histogram) {
    seen += bin.count;
    xs.push_back(x.At(static_cast<double>(bin.to_ns)));
    ys.push_back(static_cast<double>(seen) / static_cast<double>(latency.gaps.count));
  }
  return DrawCurve(xs, ys, style);
}

// Two values a layer, for the layers that both runs have.
struct LayerPair {
  int layer = 0;
  double a = 0, b = 0;
};

std::string LayerPicture(const std::vector<LayerPair>& layers, Picture picture,
                         const std::vector<std::string>& columns, bool is_share) {
  HtmlTable table("table-" + picture.id, picture.title, columns);
  std::vector<double> a, b;
  std::vector<std::string> labels;
  const auto text = [is_share](double value) {
    return value < 0  ? std::string("–")
           : is_share ? FormatShare(value)
                      : fmt::format("{:.3f}", value);
  };
  for (const LayerPair& layer : layers) {
    a.push_back(layer.a);
    b.push_back(layer.b);
    labels.push_back(fmt::format("{}", layer.layer));
    table.Add({fmt::format("layer {}", layer.layer), text(layer.a), text(layer.b)});
  }
  const bool has_a = std::any_of(layers.begin(), layers.end(), [](auto& l) { return l.a >= 0; });
  const bool has_b = std::any_of(layers.begin(), layers.end(), [](auto& l) { return l.b >= 0; });
  if (has_a) picture.shapes += DrawLine(a, "s-a") + DrawDots(a, "s-a");
  if (has_b) picture.shapes += DrawLine(b, "s-b") + DrawDots(b, "s-b");
  picture.x_ticks = LabelEach(labels);
  picture.x_title = "layer";
  picture.y_ticks = Axis::Linear(0, 1).Ticks(5, is_share ? LabelPercent : LabelNumber);
  picture.table = &table;
  return Render(picture);
}

template <typename Layer, typename Value>
std::vector<LayerPair> Pairs(const std::vector<Layer>& a, const std::vector<Layer>& b,
                             Value value) {
  std::vector<LayerPair> pairs;
  for (const Layer& layer : a) {
    const auto other = std::find_if(b.begin(), b.end(),
                                    [&layer](const Layer& l) { return l.layer == layer.layer; });
    if (other != b.end()) pairs.push_back({layer.layer, value(layer), value(*other)});
  }
  return pairs;
}

}  // namespace

Section NumbersOfBothSection(const RunPair& runs) {
  const RunAnalysis& a = runs.a;
  const RunAnalysis& b = runs.b;
  NumbersTable table;
  table.Add(
      "Model", NameOr(a.header.model, "not named"), NameOr(b.header.model, "not named"),
      a.header.model_hash != 0 && a.header.model_hash == b.header.model_hash ? "same files" : "");
  table.Add("RAM for experts", FormatBytes(a.header.budget_bytes),
            FormatBytes(b.header.budget_bytes),
            Change(static_cast<double>(a.header.budget_bytes),
                   static_cast<double>(b.header.budget_bytes)));
  table.Add("Policy", NameOr(a.header.policy, "–"), NameOr(b.header.policy, "–"));
  table.Add("Prefetch", NameOr(a.header.prefetch, "–"), NameOr(b.header.prefetch, "–"));
  table.Add("Tokens decoded", fmt::format("{}", a.latency.tokens),
            fmt::format("{}", b.latency.tokens));
  table.Add("Decode speed", fmt::format("{:.1f} tokens/s", a.latency.tokens_per_second()),
            fmt::format("{:.1f} tokens/s", b.latency.tokens_per_second()),
            Change(a.latency.tokens_per_second(), b.latency.tokens_per_second()));
  table.AddTimes("p50", a.latency.gaps.p50_ns, b.latency.gaps.p50_ns);
  table.AddTimes("p90", a.latency.gaps.p90_ns, b.latency.gaps.p90_ns);
  table.AddTimes("p99", a.latency.gaps.p99_ns, b.latency.gaps.p99_ns);
  table.AddTimes("p99.9", a.latency.gaps.p999_ns, b.latency.gaps.p999_ns);
  table.AddTimes("Longest", a.latency.gaps.max_ns, b.latency.gaps.max_ns);
  table.AddShares("Hit rate, decode", a.residency.decode.asked() > 0, a.residency.decode.hit_rate(),
                  b.residency.decode.asked() > 0, b.residency.decode.hit_rate());
  table.Add("Read a token", ReadPerToken(a.residency), ReadPerToken(b.residency));
  table.Add("Entropy of routing, mean of layers", fmt::format("{:.3f}", MeanEntropy(a.routing)),
            fmt::format("{:.3f}", MeanEntropy(b.routing)));
  return {.id = "numbers", .title = "Both in numbers", .html = table.Render()};
}

Section LatencyOfBothSection(const RunPair& runs) {
  Section section = {.id = "latency", .title = "Time between tokens"};
  const Latency& a = runs.a.latency;
  const Latency& b = runs.b.latency;
  if (a.histogram.empty() || b.histogram.empty()) {
    section.html = Missing("At least one of the traces has no decode step with a time.");
    return section;
  }
  const Axis x =
      Axis::Log(static_cast<double>(std::max<int64_t>(
                    1, std::min(a.histogram.front().from_ns, b.histogram.front().from_ns))),
                static_cast<double>(std::max<int64_t>(
                    2, std::max(a.histogram.back().to_ns, b.histogram.back().to_ns))));
  section.html =
      Render({.id = "latency-both",
              .title = "Share of tokens that took at most so long",
              .summary = fmt::format(
                  "The curve further left is the faster run. Half of the tokens took at most {} in "
                  "A and {} in B; the table above has the tails.",
                  FormatDuration(a.gaps.p50_ns), FormatDuration(b.gaps.p50_ns)),
              .legend = RenderLegend(BothLegend()),
              .shapes = Cumulative(a, x, "s-a") + Cumulative(b, x, "s-b"),
              .x_ticks = x.Ticks(5, LabelDuration),
              .y_ticks = Axis::Linear(0, 1).Ticks(5, LabelPercent),
              .x_title = "time between tokens (log scale)",
              .y_title = "share of tokens"});
  return section;
}

Section CausesOfBothSection(const RunPair& runs) {
  Section section = {.id = "causes", .title = "Time by cause"};
  if (!runs.a.latency.is_timed || !runs.b.latency.is_timed) {
    section.html = Missing("At least one of the traces has no times.");
    return section;
  }
  CauseTimes both = runs.a.latency.causes;
  for (size_t c = 0; c < both.size(); ++c) both[c] += runs.b.latency.causes[c];
  section.html = CauseLegend(both) + "<div class=\"bars\">" + CauseBar("A", runs.a.latency.causes) +
                 CauseBar("B", runs.b.latency.causes) + "</div>\n";
  return section;
}

Section HitsOfBothSection(const RunPair& runs) {
  Section section = {.id = "hits", .title = "Hit rate by layer"};
  if (!runs.a.residency.layers_known || !runs.b.residency.layers_known) {
    section.html = Missing("At least one of the traces does not say what was in memory by layer.");
    return section;
  }
  section.html =
      LayerPicture(Pairs(runs.a.residency.layers, runs.b.residency.layers,
                         [](const LayerResidency& layer) { return layer.hits.hit_rate(); }),
                   {.id = "hits-both",
                    .title = "Hit rate by layer",
                    .summary = "Share of experts that were in memory when a step asked for them.",
                    .legend = RenderLegend(BothLegend()),
                    .y_title = "hit rate"},
                   {"Layer", "A", "B"}, true);
  return section;
}

Section EntropyOfBothSection(const RunPair& runs) {
  Section section = {.id = "entropy", .title = "Evenness of routing"};
  section.html = LayerPicture(Pairs(runs.a.routing.layers, runs.b.routing.layers,
                                    [](const LayerRouting& layer) { return layer.entropy; }),
                              {.id = "entropy-both",
                               .title = "Entropy of routing by layer",
                               .summary = "1 is an even split over all experts of the layer.",
                               .legend = RenderLegend(BothLegend()),
                               .y_title = "entropy by that of an even split"},
                              {"Layer", "A", "B"}, false);
  for (const RunAnalysis* run : {&runs.a, &runs.b}) {
    for (const LayerRouting& layer : run->routing.layers) {
      if (!layer.has_collapsed) continue;
      section.html += fmt::format(
          "<p class=\"warning\">In {} layer {} has collapsed onto {:.1f} effective experts of "
          "{}.</p>\n",
          run == &runs.a ? "A" : "B", layer.layer, layer.effective_experts, layer.expert_count);
    }
  }
  return section;
}

Section AgreementSection(const Agreement& agreement) {
  Section section = {.id = "agreement", .title = "Agreement of choices"};
  if (!agreement.problem.empty()) {
    section.html =
        Missing("The runs cannot be held against each other: " + agreement.problem + ".");
    return section;
  }
  std::vector<LayerPair> choices, best;
  LayerAgreement::Rows prompt, decode;
  for (const LayerAgreement& layer : agreement.layers) {
    const auto share = [](const LayerAgreement::Rows& rows, double value) {
      return rows.count == 0 ? -1 : value;
    };
    choices.push_back({layer.layer, share(layer.prompt, layer.prompt.share()),
                       share(layer.decode, layer.decode.share())});
    best.push_back({layer.layer, share(layer.prompt, layer.prompt.best_share()),
                    share(layer.decode, layer.decode.best_share())});
    prompt.chosen += layer.prompt.chosen, prompt.shared += layer.prompt.shared;
    decode.chosen += layer.decode.chosen, decode.shared += layer.decode.shared;
  }
  section.html =
      "<p>Rows of the same sequence and position are held against each other. In the "
      "prompt both runs saw the same tokens if they were given the same prompts; while "
      "decoding only as long as they wrote the same text.</p>\n";
  const std::vector<LegendEntry> legend = {{"s-a", "prompt", true}, {"s-b", "decode", true}};
  section.html += LayerPicture(
      choices,
      {.id = "agreement-choices",
       .title = "Experts that both chose, by layer",
       .summary = fmt::format("Of the experts that A chose, B chose {} in the prompt and {} while "
                              "decoding.",
                              prompt.chosen == 0 ? "none to compare" : FormatShare(prompt.share()),
                              decode.chosen == 0 ? "none to compare" : FormatShare(decode.share())),
       .legend = RenderLegend(legend),
       .y_title = "share of A's choices"},
      {"Layer", "Prompt", "Decode"}, true);
  if (agreement.best_known) {
    section.html += LayerPicture(best,
                                 {.id = "agreement-best",
                                  .title = "Rows whose first choice is the same, by layer",
                                  .summary = "The expert that the router ranked first.",
                                  .legend = RenderLegend(legend),
                                  .y_title = "share of rows"},
                                 {"Layer", "Prompt", "Decode"}, true);
  }
  return section;
}

}  // namespace stoker
