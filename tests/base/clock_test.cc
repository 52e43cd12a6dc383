// Clocks that are read and slept on.
#include "base/clock.h"

#include <gtest/gtest.h>

namespace stoker {
namespace {

TEST(VirtualClock, SleepingMovesItForwardOnly) {
  VirtualClock clock;
  clock.SleepUntilNs(500);
  EXPECT_EQ(clock.NowNs(), 500);
  clock.SleepUntilNs(200);
  EXPECT_EQ(clock.NowNs(), 500);
  clock.AdvanceNs(7);
  EXPECT_EQ(clock.NowNs(), 507);
}

TEST(RealClock, SleepEndsNoEarlierThanAsked) {
  RealClock clock;
  for (const int64_t ns : {-1'000, 0, 1'000, 50'000, 300'000}) {
    const int64_t when_ns = clock.NowNs() + ns;
    clock.SleepUntilNs(when_ns);
    EXPECT_GE(clock.NowNs(), when_ns);
  }
}

}  // namespace
}  // namespace stoker
