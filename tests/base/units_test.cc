// Claims about parsing and printing of quantities.
#include "base/units.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TEST(ParseBytes, UnitsArePowersOf1024) {
  EXPECT_EQ(*ParseBytes("4096"), 4096u);
  EXPECT_EQ(*ParseBytes("8G"), uint64_t{8} << 30);
  EXPECT_EQ(*ParseBytes("512MiB"), uint64_t{512} << 20);
  EXPECT_EQ(*ParseBytes(" 1.5 GB "), uint64_t{3} << 29);
  EXPECT_EQ(*ParseBytes("2k"), 2048u);
  EXPECT_EQ(*ParseBytes("1T"), uint64_t{1} << 40);
}

TEST(ParseBytes, AnythingElseIsAnErrorThatQuotesTheText) {
  for (const char* text : {"", "G", "-1G", "8X", "8GiBs", "1e30T", "nan", "inf", "0x10", "8 8"}) {
    const auto parsed = ParseBytes(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_NE(std::string(parsed.status().message()).find(text), std::string::npos);
  }
}

TEST(ParseRate, UnitsArePowersOf1000) {
  EXPECT_EQ(*ParseRate("24GB/s"), 24e9);
  EXPECT_EQ(*ParseRate(" 1.5 G "), 1.5e9);
  EXPECT_EQ(*ParseRate("900MB"), 900e6);
  EXPECT_EQ(*ParseRate("4096"), 4096);
}

TEST(ParseRate, AnythingElseIsAnErrorThatQuotesTheText) {
  for (const char* text : {"", "fast", "0", "-1G", "8X", "8GiB/s", "1G/h", "nan", "/s"}) {
    const auto parsed = ParseRate(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_NE(std::string(parsed.status().message()).find(text), std::string::npos);
  }
}

TEST(Format, PicksTheUnitThatReads) {
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(2654208), "2.53 MiB");
  EXPECT_EQ(FormatRate(1.47e9), "1.47 GB/s");
  EXPECT_EQ(FormatDuration(183'000), "183 us");
  EXPECT_EQ(FormatDuration(12'700'000'000), "12.70 s");
}

}  // namespace
}  // namespace stoker
