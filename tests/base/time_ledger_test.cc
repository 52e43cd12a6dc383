// Claims about attribution of time.
#include "base/time_ledger.h"

#include <gtest/gtest.h>

#include <numeric>

namespace stoker {
namespace {

int64_t At(const CauseTimes& times, Cause cause) { return times[static_cast<size_t>(cause)]; }

TEST(TimeLedger, EveryNanosecondGoesToOneCause) {
  VirtualClock clock;
  TimeLedger ledger(clock);
  clock.AdvanceNs(5);
  {
    CauseScope attention(&ledger, Cause::kAttention);
    clock.AdvanceNs(10);
    {
      CauseScope wait(&ledger, Cause::kWaitDrive);
      clock.AdvanceNs(100);
    }
    clock.AdvanceNs(1);
  }
  clock.AdvanceNs(2);
  const CauseTimes times = ledger.Take();
  EXPECT_EQ(At(times, Cause::kAttention), 11);
  EXPECT_EQ(At(times, Cause::kWaitDrive), 100);
  EXPECT_EQ(At(times, Cause::kOther), 7);
  EXPECT_EQ(std::accumulate(times.begin(), times.end(), int64_t{0}), clock.NowNs());
}

TEST(TimeLedger, TakingStartsAgainFromZero) {
  VirtualClock clock;
  TimeLedger ledger(clock);
  clock.AdvanceNs(3);
  ledger.Take();
  clock.AdvanceNs(4);
  EXPECT_EQ(At(ledger.Take(), Cause::kOther), 4);
}

TEST(TimeLedger, NamesAreDistinct) {
  for (size_t a = 0; a < static_cast<size_t>(Cause::kCount); ++a) {
    for (size_t b = 0; b < a; ++b) {
      EXPECT_NE(NameOf(static_cast<Cause>(a)), NameOf(static_cast<Cause>(b)));
    }
  }
}

}  // namespace
}  // namespace stoker
