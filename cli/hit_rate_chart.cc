// Draws lines into a grid of characters.
#include "cli/hit_rate_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace stoker {
namespace {

constexpr int kRows = 16;
constexpr int kAxisColumns = 7;  // "100 % |"
constexpr int kPlotColumnsMax = 90;
constexpr int kPlotColumnsMin = 16;
constexpr int kSeriesMax = 26;

char LetterOf(size_t series) { return static_cast<char>('a' + series); }

std::string Colored(std::string_view text, size_t series, bool has_color) {
  constexpr int kColors[] = {31, 32, 33, 34, 35, 36};
  if (!has_color) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", kColors[series % std::size(kColors)], text);
}

class Grid {
 public:
  Grid(const HitRateChart& chart, int columns)
      : chart_(chart),
        columns_(std::clamp(columns - kAxisColumns - 1, kPlotColumnsMin, kPlotColumnsMax)),
        cells_(kRows, std::vector<int>(static_cast<size_t>(columns_), -1)) {
    FindRange();
    for (size_t series = 0; series < chart.series.size(); ++series) Draw(series);
  }

  std::string Format(bool has_color) const {
    std::string text;
    for (int row = 0; row < kRows; ++row) {
      text += row % 5 == 0 ? fmt::format("{:>4.0f} % |", 100 * RateOf(row)) : "       |";
      std::string line;
      size_t used = 0;  // blanks at the end are left out
      for (int column = 0; column < columns_; ++column) {
        const int series = cells_[row][column];
        if (series < 0) {
          line += ' ';
          continue;
        }
        const char letter = LetterOf(static_cast<size_t>(series));
        line += Colored({&letter, 1}, static_cast<size_t>(series), has_color);
        used = line.size();
      }
      text += line.substr(0, used) + "\n";
    }
    return text + Axis();
  }

 private:
  void FindRange() {
    double low = 1;
    double high = 0;
    for (const HitRateChart::Series& series : chart_.series) {
      for (const double rate : series.rates) {
        low = std::min(low, rate);
        high = std::max(high, rate);
      }
    }
    // Whole steps of 5 %, so that the axis reads well.
    low_ = std::floor(low * 20) / 20;
    high_ = std::max(std::ceil(high * 20) / 20, low_ + 0.05);
  }
  double RateOf(int row) const { return high_ - (high_ - low_) * row / (kRows - 1); }
  int RowOf(double rate) const {
    const double place = (high_ - rate) / (high_ - low_) * (kRows - 1);
    return std::clamp(static_cast<int>(std::lround(place)), 0, kRows - 1);
  }
  int ColumnOf(double share) const {
    const double first = std::log(chart_.shares.front());
    const double last = std::log(chart_.shares.back());
    const double place = (std::log(share) - first) / (last - first) * (columns_ - 1);
    return std::clamp(static_cast<int>(std::lround(place)), 0, columns_ - 1);
  }

  void Draw(size_t series) {
    const std::vector<double>& rates = chart_.series[series].rates;
    for (size_t i = 0; i + 1 < rates.size(); ++i) {
      const int begin = ColumnOf(chart_.shares[i]);
      const int end = ColumnOf(chart_.shares[i + 1]);
      for (int column = begin; column <= end; ++column) {
        const double part = end > begin ? static_cast<double>(column - begin) / (end - begin) : 1;
        int& cell = cells_[RowOf(rates[i] + part * (rates[i + 1] - rates[i]))][column];
        if (cell < 0) cell = static_cast<int>(series);
      }
    }
  }

  // The budgets below the line, as many as have room.
  std::string Axis() const {
    std::string line(static_cast<size_t>(columns_), ' ');
    int free_from = 0;
    for (size_t i = 0; i < chart_.shares.size(); ++i) {
      const std::string& text = chart_.budget_texts[i];
      const int width = static_cast<int>(text.size());
      const int at = std::clamp(ColumnOf(chart_.shares[i]) - width / 2, 0, columns_ - width);
      if (at < free_from || width > columns_) continue;
      line.replace(static_cast<size_t>(at), text.size(), text);
      free_from = at + width + 1;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return fmt::format("       +{}\n        {}\n", std::string(static_cast<size_t>(columns_), '-'),
                       line);
  }

  const HitRateChart& chart_;
  const int columns_;
  double low_ = 0;
  double high_ = 1;
  std::vector<std::vector<int>> cells_;  // by row from the top, by column: series; -1: none
};

std::string Legend(const HitRateChart& chart, int columns, bool has_color) {
  std::string text;
  int used = columns;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const std::string entry = fmt::format("{} {}", LetterOf(i), chart.series[i].name);
    const int width = static_cast<int>(entry.size()) + 3;
    if (used + width > columns) {
      text += text.empty() ? "     " : "\n     ";
      used = 5;
    }
    text += fmt::format("   {}", Colored(entry, i, has_color));
    used += width;
  }
  return text + "\n";
}

}  // namespace

std::string FormatHitRateChart(const HitRateChart& chart, int columns, bool has_color) {
  CHECK(chart.shares.size() >= 2 && chart.series.size() <= kSeriesMax);
  return Grid(chart, columns).Format(has_color) + Legend(chart, columns, has_color);
}

}  // namespace stoker
