// Values of flags that have a grammar of their own.
#include "cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace stoker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ParseIds, SpacesCommasAndLinesSeparate) {
  EXPECT_THAT(*ParseIds("1 2,3\n 4, 5\t6 "), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(*ParseIds(" \n"), IsEmpty());
  EXPECT_THAT(*ParseIds("-1"), ElementsAre(-1));  // refused later, with the vocabulary's bounds
}

TEST(ParseIds, WhatIsNoWholeNumberIsAnError) {
  for (const char* text : {"1 x", "1.5", "0x10", "99999999999", "1-2", "[1]"}) {
    EXPECT_EQ(ParseIds(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ModelFlags, CheckResolvesTheBudgetAndNamesABadOne) {
  ModelFlags flags;
  flags.ram = "2G";
  ASSERT_TRUE(flags.Check().ok());
  EXPECT_EQ(flags.options.ram.bytes, uint64_t{2} << 30);
  flags.ram = "plenty";
  EXPECT_EQ(flags.Check().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace stoker
