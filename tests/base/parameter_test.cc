// What the user set is checked, and says what would do.
#include "base/parameter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace stoker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr ParameterRow kRows[] = {
    {.name = "share", .value = 0.5, .minimum = 0.1, .maximum = 1, .reason = "larger is more"},
    {.name = "count", .value = 3, .minimum = 1, .maximum = 9, .is_whole = true, .reason = "few"},
};

std::string MessageOf(const Setting& setting) {
  const auto values = ChooseParameters("part", kRows, {{setting}});
  EXPECT_EQ(values.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(values.status().message().data(), values.status().message().size());
}

TEST(ChooseParameters, UnsetOnesKeepTheirDefault) {
  EXPECT_THAT(*ChooseParameters("part", kRows, {}), ElementsAre(0.5, 3));
  EXPECT_THAT(*ChooseParameters("part", {}, {}), ElementsAre());
}

TEST(ChooseParameters, TheLastSettingOfARowCounts) {
  const Setting settings[] = {{"part.count", 4}, {"part.share", 1}, {"part.count", 9}};
  EXPECT_THAT(*ChooseParameters("part", kRows, settings), ElementsAre(1, 9));
}

TEST(ChooseParameters, SettingsOfOtherRowsArePassedOver) {
  const Setting settings[] = {{"partial.count", 4}, {"par.t", 1}, {"share", 1}, {"x.share", 99}};
  EXPECT_THAT(*ChooseParameters("part", kRows, settings), ElementsAre(0.5, 3));
}

TEST(ChooseParameters, UnknownParameterListsTheKnownOnes) {
  EXPECT_THAT(
      MessageOf({"part.size", 1}),
      testing::AllOf(HasSubstr("\"part\" has no parameter \"size\""), HasSubstr("share, count")));
  const auto none = ChooseParameters("part", {}, {{Setting{"part.size", 1}}});
  EXPECT_THAT(none.status().ToString(), HasSubstr("it has none"));
}

TEST(ChooseParameters, ValueOutOfRangeSaysRangeAndReason) {
  for (const double value : {0.0, 1.5, -1.0, std::nan(""), double{INFINITY}}) {
    EXPECT_THAT(MessageOf({"part.share", value}),
                testing::AllOf(HasSubstr("part.share is"), HasSubstr("a number from 0.1 to 1"),
                               HasSubstr("0.5 unless set"), HasSubstr("larger is more")));
  }
  EXPECT_THAT(MessageOf({"part.count", 2.5}), HasSubstr("a whole number from 1 to 9"));
}

}  // namespace
}  // namespace stoker
