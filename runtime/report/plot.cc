// Axes, frames and shapes.
#include "runtime/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace stoker {
namespace {

constexpr int kLabelsMax = 12;
constexpr double kGapShare = 0.15;  // between two columns

double X(double at) { return at * kPlotWidth; }
double Y(double at) { return (1 - at) * kPlotHeight; }

double Middle(size_t index, size_t count) {
  return (static_cast<double>(index) + 0.5) / static_cast<double>(count);
}

// 1, 2 or 5 times a power of ten, at least `least`.
double RoundStep(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::string RenderTicks(const char* which, const char* side, const std::vector<Tick>& ticks) {
  std::string html = fmt::format("<div class=\"axis-{}\" aria-hidden=\"true\">", which);
  for (const Tick& tick : ticks) {
    // Labels at the ends stay inside.
    const char* end = tick.at < 0.03 ? " class=\"first\"" : tick.at > 0.94 ? " class=\"last\"" : "";
    html += fmt::format("<span{} style=\"{}:{:.2f}%\">{}</span>", end, side, tick.at * 100,
                        EscapeHtml(tick.label));
  }
  return html + "</div>";
}

std::string Trimmed(double value, const char* unit) {
  if (value == 0) value = 0;  // and not -0
  std::string text = fmt::format("{:.3g}", value);
  if (value >= 1000) text = fmt::format("{:.0f}", value);
  return *unit == 0 ? text : fmt::format("{} {}", text, unit);
}

}  // namespace

double Axis::At(double value) const {
  if (to_ <= from_) return 0;
  const double at = is_log_ ? std::log(std::max(value, from_) / from_) / std::log(to_ / from_)
                            : (value - from_) / (to_ - from_);
  return std::clamp(at, 0.0, 1.0);
}

std::vector<Tick> Axis::Ticks(int count, std::string (*label)(double)) const {
  std::vector<Tick> ticks;
  if (is_log_) {
    for (double power = std::pow(10, std::floor(std::log10(from_))); power <= to_; power *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * power;
        if (value < from_ * 0.999 || value > to_ * 1.001) continue;
        ticks.push_back({At(value), label(value)});
      }
    }
    if (ticks.size() >= 2 && static_cast<int>(ticks.size()) <= 2 * count) return ticks;
    if (ticks.size() >= 2) {  // powers of ten alone
      ticks.clear();
      for (double v = std::pow(10, std::ceil(std::log10(from_) - 1e-9)); v <= to_ * 1.001; v *= 10)
        ticks.push_back({At(v), label(v)});
      if (ticks.size() >= 2) return ticks;
    }
    ticks.clear();
  }
  const double step = RoundStep(std::max(1e-12, (to_ - from_) / count));
  for (double i = std::ceil(from_ / step - 1e-9); i * step <= to_ * (1 + 1e-9); ++i) {
    ticks.push_back({At(i * step), label(i * step)});
  }
  return ticks;
}

std::string LabelDuration(double ns) {
  if (ns < 1) return "0";
  if (ns < 1e3) return Trimmed(ns, "ns");
  if (ns < 1e6) return Trimmed(ns / 1e3, "us");
  if (ns < 1e9) return Trimmed(ns / 1e6, "ms");
  return Trimmed(ns / 1e9, "s");
}
std::string LabelPercent(double share) { return Trimmed(share * 100, "%"); }
std::string LabelNumber(double value) { return Trimmed(value, ""); }
std::string LabelBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return Trimmed(bytes, kUnits[unit]);
}

std::vector<Tick> LabelEach(absl::Span<const std::string> labels) {
  std::vector<Tick> ticks;
  const size_t stride = (labels.size() + kLabelsMax - 1) / kLabelsMax;
  for (size_t i = 0; i < labels.size(); i += std::max<size_t>(1, stride)) {
    ticks.push_back({Middle(i, labels.size()), labels[i]});
  }
  return ticks;
}

std::string Render(const Picture& picture) {
  std::string grid;
  for (const Tick& tick : picture.y_ticks) {
    grid += fmt::format("<path class=\"grid\" d=\"M0 {:.1f}H{}\"/>", Y(tick.at), kPlotWidth);
  }
  const std::string points = picture.table == nullptr
                                 ? std::string()
                                 : fmt::format(" data-table=\"{}\" data-count=\"{}\"",
                                               picture.table->id(), picture.table->row_count());
  std::string html = fmt::format(
      "<figure id=\"{}\"><figcaption><b>{}</b><span>{}</span></figcaption>\n{}", picture.id,
      EscapeHtml(picture.title), EscapeHtml(picture.summary), picture.legend);
  html += fmt::format(
      "<p class=\"y-title\" aria-hidden=\"true\">{}</p>\n"
      "<div class=\"plot\" role=\"group\" aria-roledescription=\"picture\" tabindex=\"0\" "
      "aria-label=\"{}. {} Left and right arrow keys read it point by point.\"{}>",
      EscapeHtml(picture.y_title), EscapeHtml(picture.title), EscapeHtml(picture.summary), points);
  html += RenderTicks("y", "bottom", picture.y_ticks);
  html += fmt::format(
      "<div class=\"area\"><svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" "
      "aria-hidden=\"true\">{}{}</svg>{}<div class=\"cursor\" hidden></div></div>",
      kPlotWidth, kPlotHeight, grid, picture.shapes, picture.marks);
  html += RenderTicks("x", "left", picture.x_ticks) + "</div>\n";
  html += RenderBelow(picture.x_title);
  if (picture.table != nullptr) html += picture.table->RenderFolded();
  return html + "</figure>\n";
}

std::string RenderBelow(const std::string& x_title) {
  return fmt::format(
      "<div class=\"below\"><p class=\"readout\" role=\"status\"></p>"
      "<p class=\"x-title\" aria-hidden=\"true\">{}</p></div>\n",
      EscapeHtml(x_title));
}

std::string DrawCurve(absl::Span<const double> xs, absl::Span<const double> ys,
                      const std::string& style) {
  std::string d;
  for (size_t i = 0; i < xs.size(); ++i) {
    d += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", X(xs[i]), Y(ys[i]));
  }
  return fmt::format("<path class=\"line {}\" d=\"{}\"/>", style, d);
}

std::string DrawLine(absl::Span<const double> ys, const std::string& style) {
  std::string d;
  bool is_open = false;
  for (size_t i = 0; i < ys.size(); ++i) {
    const bool is_known = ys[i] >= 0;
    if (is_known) {
      d += fmt::format("{}{:.1f} {:.1f}", is_open ? "L" : "M", X(Middle(i, ys.size())), Y(ys[i]));
    }
    is_open = is_known;
  }
  return fmt::format("<path class=\"line {}\" d=\"{}\"/>", style, d);
}

// A dot is a line of no length with round ends: it stays round however the box is stretched.
std::string DrawDots(absl::Span<const double> ys, const std::string& style) {
  std::string d;
  for (size_t i = 0; i < ys.size(); ++i) {
    if (ys[i] < 0) continue;
    d += fmt::format("M{:.1f} {:.1f}h0", X(Middle(i, ys.size())), Y(ys[i]));
  }
  return fmt::format("<path class=\"dots {}\" d=\"{}\"/>", style, d);
}

std::string DrawBand(absl::Span<const double> lows, absl::Span<const double> highs,
                     const std::string& style) {
  std::string d;
  for (size_t i = 0; i < highs.size(); ++i) {
    d +=
        fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", X(Middle(i, highs.size())), Y(highs[i]));
  }
  for (size_t i = lows.size(); i-- > 0;) {
    d += fmt::format("L{:.1f} {:.1f}", X(Middle(i, lows.size())), Y(lows[i]));
  }
  return fmt::format("<path class=\"band {}\" d=\"{}Z\"/>", style, d);
}

std::string DrawColumns(absl::Span<const double> lows, absl::Span<const double> highs,
                        const std::string& style) {
  const double share = kPlotWidth / static_cast<double>(std::max<size_t>(1, highs.size()));
  const double gap = highs.size() > 120 ? 0 : share * kGapShare;
  std::string d;
  for (size_t i = 0; i < highs.size(); ++i) {
    const double height = (highs[i] - lows[i]) * kPlotHeight;
    if (height < 0.05) continue;
    d += fmt::format("M{:.1f} {:.1f}h{:.1f}v{:.1f}h-{:.1f}z",
                     share * static_cast<double>(i) + gap / 2, Y(highs[i]), share - gap, height,
                     share - gap);
  }
  return d.empty() ? d : fmt::format("<path class=\"fill {}\" d=\"{}\"/>", style, d);
}

std::string DrawUpright(double x, const std::string& style) {
  return fmt::format("<path class=\"line {}\" d=\"M{:.1f} 0V{}\"/>", style, X(x), kPlotHeight);
}

std::string RenderLegend(absl::Span<const LegendEntry> entries) {
  std::string html = "<ul class=\"legend\">";
  for (const LegendEntry& entry : entries) {
    html += fmt::format("<li><span class=\"swatch {}{}\"></span>{}</li>",
                        entry.is_line ? "swatch-line " : "", entry.style, EscapeHtml(entry.text));
  }
  return html + "</ul>\n";
}

}  // namespace stoker
