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
  uint64_t copies_within = 0;
  uint64_t copied_within_bytes = 0;
  uint64_t unpinned_copies = 0;  // with host memory that was not pinned: those hold up the host
  uint64_t launches = 0;
  uint64_t repeats = 0;  // of recordings; what they hold is counted above as well
  uint64_t refused_recordings = 0;
  // Asked by the host, one by one: copies, kernels and repeats queued, events recorded and waited
  // for.
  uint64_t calls = 0;
  uint64_t waits = 0;  // Await of work that was not known to be done

  // What was asked for since `before`, of copies and kernels.
  DeviceCounts WorkSince(const DeviceCounts& before) const;
  void AddWork(const DeviceCounts& work);
  void Report(CounterVisitor& visitor) const;
};

}  // namespace stoker
