// Pictures as inline SVG. Curves and bars are drawn in a box that stretches with the page; text and
// marks are HTML laid over it, so that they keep their size on a phone.
#pragma once

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "runtime/report/html.h"

namespace stoker {

inline constexpr double kPlotWidth = 720, kPlotHeight = 240;  // of the box's own units

struct Tick {
  double at = 0;  // [0, 1] along the axis
  std::string label;
};

// Maps values to [0, 1].
class Axis {
 public:
  static Axis Linear(double from, double to) { return Axis(from, to, false); }
  static Axis Log(double from, double to) { return Axis(from, to, true); }
  // Clamped to the axis.
  double At(double value) const;
  double from() const { return from_; }
  double to() const { return to_; }
  bool is_log() const { return is_log_; }

  // About `count` round values with their labels.
  std::vector<Tick> Ticks(int count, std::string (*label)(double)) const;

 private:
  Axis(double from, double to, bool is_log) : from_(from), to_(to), is_log_(is_log) {}
  double from_, to_;
  bool is_log_;
};

// Labels for ticks.
std::string LabelDuration(double ns);    // "20 ms"
std::string LabelPercent(double share);  // "20 %", of 1
std::string LabelNumber(double value);   // "20", "0.2"
std::string LabelBytes(double bytes);    // "20 MiB"

// Labels of layers (or of points) along x, thinned out to a dozen.
std::vector<Tick> LabelEach(absl::Span<const std::string> labels);

// What a picture is put together of; Render makes a <figure>.
struct Picture {
  std::string id;
  std::string title;    // shown above it, and what it is called to those who do not see it
  std::string summary;  // what it shows, in a sentence; escaped here
  std::string legend;   // HTML
  std::string shapes;   // SVG inside the box
  std::string marks;    // HTML over the box
  std::vector<Tick> x_ticks, y_ticks;
  std::string x_title, y_title;
  const HtmlTable* table = nullptr;  // one row a point, evenly spread over x
};
std::string Render(const Picture& picture);
// The line below a picture: what page.js reads out, and the title of the axis.
std::string RenderBelow(const std::string& x_title);

// Shapes, classes of page.css deciding on colours. Points are evenly spread over x, in the middle
// of their share of it; y is [0, 1], upwards. Lines and dots leave out what is negative.
std::string DrawLine(absl::Span<const double> ys, const std::string& style);
std::string DrawDots(absl::Span<const double> ys, const std::string& style);
// The area between two lines.
std::string DrawBand(absl::Span<const double> lows, absl::Span<const double> highs,
                     const std::string& style);
// Any line, both ways in [0, 1].
std::string DrawCurve(absl::Span<const double> xs, absl::Span<const double> ys,
                      const std::string& style);
// Columns from `lows` to `highs`, one path.
std::string DrawColumns(absl::Span<const double> lows, absl::Span<const double> highs,
                        const std::string& style);
std::string DrawUpright(double x, const std::string& style);

// One entry of a legend: a swatch of a style, and text.
struct LegendEntry {
  std::string style;
  std::string text;
  bool is_line = false;
};
std::string RenderLegend(absl::Span<const LegendEntry> entries);

}  // namespace stoker
