// The picture of hit rates: who is drawn where, and that it fits.
#include "cli/hit_rate_chart.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace stoker {
namespace {

HitRateChart TwoLines() {
  return {.shares = {6.25, 25, 100},
          .budget_texts = {"6.25%", "25%", "100%"},
          .series = {{"best", {0.5, 0.8, 1.0}}, {"worst", {0.0, 0.2, 1.0}}}};
}

std::vector<std::string> Lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(HitRateChart, PutsEndsWhereTheirRatesAre) {
  const std::vector<std::string> lines = Lines(FormatHitRateChart(TwoLines(), 60, false));
  EXPECT_EQ(lines[0].substr(0, 8), " 100 % |");
  EXPECT_EQ(lines[0].back(), 'a');                 // both end at 100 %, the first is seen
  EXPECT_EQ(lines[15].substr(0, 9), "   0 % |b");  // the other begins at nothing
  EXPECT_EQ(std::count(lines[7].begin(), lines[7].end(), 'b') +
                    std::count(lines[8].begin(), lines[8].end(), 'a') >
                0,
            true);
  EXPECT_NE(lines.back().find("a best   b worst"), std::string::npos);
}

TEST(HitRateChart, FitsWhateverTheTerminal) {
  for (const int columns : {40, 60, 100, 300}) {
    for (const std::string& line : Lines(FormatHitRateChart(TwoLines(), columns, false))) {
      EXPECT_LE(line.size(), static_cast<size_t>(columns)) << line;
    }
  }
}

TEST(HitRateChart, ColoursOnlyIfAsked) {
  EXPECT_EQ(FormatHitRateChart(TwoLines(), 60, false).find('\x1b'), std::string::npos);
  EXPECT_NE(FormatHitRateChart(TwoLines(), 60, true).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace stoker
