// The machine's monotonic clock.
#include "base/clock.h"

#include <cerrno>
#include <ctime>

namespace stoker {
namespace {

// Timer slack is 50 us unless a process asks for less, and waking takes its own time.
constexpr int64_t kSpinNs = 100'000;

}  // namespace

int64_t RealClock::NowNs() const {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

void RealClock::SleepUntilNs(int64_t when_ns) {
  const int64_t asleep_until_ns = when_ns - kSpinNs;
  if (asleep_until_ns > NowNs()) {
    const timespec until = {.tv_sec = asleep_until_ns / 1'000'000'000,
                            .tv_nsec = asleep_until_ns % 1'000'000'000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }
  while (NowNs() < when_ns) {
  }
}

}  // namespace stoker
