// The machine's monotonic clock.
#include "base/clock.h"

#include <ctime>

namespace stoker {

int64_t RealClock::NowNs() const {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace stoker
