// What a device has been asked to do, counted the same way by every kind of device.
#pragma once

#include <cstdint>

#include "base/counters.h"

namespace stoker {

struct DeviceCounts {
  uint64_t taken_bytes = 0;   // of device memory, as asked for, less what was given back
  uint64_t pinned_bytes = 0;  // of host memory
  uint64_t copies_in = 0;
  uint64_t copied_in_bytes = 0;
  uint64_t copies_out = 0;
  uint64_t copied_out_bytes = 0;
  uint64_t unpinned_copies = 0;  // with host memory that was not pinned: those hold up the host
  uint64_t launches = 0;
  uint64_t waits = 0;  // Await of work that was not known to be done

  void Report(CounterVisitor& visitor) const;
};

}  // namespace stoker
