// Suggestions for mistyped names.
#include "cli/nearest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace stoker {
namespace {

TEST(Nearest, DistanceCountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("temp", "temp"), 0);
  EXPECT_EQ(EditDistance("tmp", "temp"), 1);
  EXPECT_EQ(EditDistance("temps", "temp"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("", "abc"), 3);
}

TEST(Nearest, TheLeastDistanceWinsAndTheFirstOnATie) {
  const std::vector<std::string> names = {"--top-k", "--top-p", "--temp"};
  EXPECT_EQ(Nearest("--tmp", names), "--temp");
  EXPECT_EQ(Nearest("--top", names), "--top-k");
}

TEST(Nearest, NothingIsNearToSomethingElseEntirely) {
  const std::vector<std::string> names = {"threads", "policy"};
  EXPECT_EQ(Nearest("xyz", names), "");
  EXPECT_EQ(Nearest("threads", {}), "");
}

}  // namespace
}  // namespace stoker
