// Names of the counts.
#include "device/device_counts.h"

namespace stoker {

void DeviceCounts::Report(CounterVisitor& visitor) const {
  visitor.Gauge("device_taken_bytes", static_cast<double>(taken_bytes));
  visitor.Gauge("device_pinned_bytes", static_cast<double>(pinned_bytes));
  visitor.Counter("device_copies_in", copies_in);
  visitor.Counter("device_copied_in_bytes", copied_in_bytes);
  visitor.Counter("device_copies_out", copies_out);
  visitor.Counter("device_copied_out_bytes", copied_out_bytes);
  visitor.Counter("device_unpinned_copies", unpinned_copies);
  visitor.Counter("device_launches", launches);
  visitor.Counter("device_waits", waits);
}

}  // namespace stoker
