// How long the kernel has worked for this process: what faults, reads and wake-ups cost.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace stoker {

// System CPU time of all threads of this process since it began. Never goes back; in steps as fine
// as the kernel counts.
class SystemTimeClock final : public Clock {
 public:
  int64_t NowNs() const override;
};

}  // namespace stoker
