// Flags made from a table of parameters.
#include "cli/parameter_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>

namespace stoker {
namespace {

using ::testing::HasSubstr;

constexpr ParameterRow kParameters[] = {
    {.name = "window_count",
     .value = 4,
     .minimum = 1,
     .maximum = 64,
     .is_whole = true,
     .reason = "larger remembers longer"},
    {.name = "share", .value = 0.5, .minimum = 0, .maximum = 1, .reason = "larger trusts more"},
};
constexpr TunableRow kRows[] = {{"sieve", "an example", kParameters}};

class ParameterFlags : public ::testing::Test {
 protected:
  ParameterFlags() { DeclareParameterFlags(app_, kRows, settings_); }

  std::string ErrorOf(const std::string& arguments) {
    try {
      app_.parse(arguments);
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
    return "";
  }

  CLI::App app_;
  std::vector<Setting> settings_;
};

TEST_F(ParameterFlags, GivenOnesAreSettingsAndOthersAreNot) {
  app_.parse("--sieve.share 0.25");
  ASSERT_EQ(settings_.size(), 1u);
  EXPECT_EQ(settings_[0].key, "sieve.share");
  EXPECT_EQ(settings_[0].value, 0.25);
}

TEST_F(ParameterFlags, HelpTellsDefaultRangeAndReason) {
  const std::string help = app_.help();
  for (const char* words : {"--sieve.window_count INT=4", "1 to 64", "larger remembers longer",
                            "--sieve.share FLOAT=0.5", "sieve: an example"}) {
    EXPECT_THAT(help, HasSubstr(words));
  }
}

TEST_F(ParameterFlags, ValueOutOfRangeNamesKeyRangeAndReason) {
  for (const char* bad : {"0", "65", "2.5", "many", "nan", "4x"}) {
    const std::string error = ErrorOf(std::string("--sieve.window_count ") + bad);
    EXPECT_THAT(error, HasSubstr("sieve.window_count is ")) << bad;
    EXPECT_THAT(error, HasSubstr("a whole number from 1 to 64 (larger remembers longer)")) << bad;
  }
  EXPECT_TRUE(settings_.empty());
}

TEST_F(ParameterFlags, BordersAreAllowed) {
  EXPECT_EQ(ErrorOf("--sieve.window_count 64 --sieve.share 0"), "");
  EXPECT_EQ(settings_.size(), 2u);
}

}  // namespace
}  // namespace stoker
