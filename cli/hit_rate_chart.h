// A picture of hit rate over budget, in plain characters.
#pragma once

#include <string>
#include <vector>

namespace stoker {

struct HitRateChart {
  struct Series {
    std::string name;
    std::vector<double> rates;  // by budget, 0 to 1
  };
  std::vector<double> shares;             // budgets as shares of all experts, ascending
  std::vector<std::string> budget_texts;  // by budget, short
  std::vector<Series> series;             // at most 26; where lines meet, the first is seen
};

// A letter a series, a line of it from budget to budget, the budgets on a logarithmic axis; a
// legend below. At most `columns` wide. Requires at least two budgets.
std::string FormatHitRateChart(const HitRateChart& chart, int columns, bool has_color);

}  // namespace stoker
