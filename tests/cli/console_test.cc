// The progress line.
#include "cli/console.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(Progress, ShowsShareBytesRateAndTimeLeft) {
  EXPECT_EQ(
      FormatProgress("loading", kGiB, 4 * kGiB, 10'000'000'000),
      "loading   25 %  [=====               ]  1.00 GiB of 4.00 GiB  107.37 MB/s  ETA 30.00 s");
}

TEST(Progress, StartsWithoutARateAndEndsFull) {
  EXPECT_EQ(FormatProgress("loading", 0, kGiB, 0),
            "loading    0 %  [                    ]  0 B of 1.00 GiB");
  const std::string full = FormatProgress("loading", kGiB, kGiB, 1'000'000'000);
  EXPECT_NE(full.find("100 %  [====================]"), std::string::npos) << full;
}

}  // namespace
}  // namespace stoker
