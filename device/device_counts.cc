// Names of the counts, and sums of those that recordings hold.
#include "device/device_counts.h"

namespace stoker {

DeviceCounts DeviceCounts::WorkSince(const DeviceCounts& before) const {
  DeviceCounts work;
  work.copies_in = copies_in - before.copies_in;
  work.copied_in_bytes = copied_in_bytes - before.copied_in_bytes;
  work.copies_out = copies_out - before.copies_out;
  work.copied_out_bytes = copied_out_bytes - before.copied_out_bytes;
  work.copies_within = copies_within - before.copies_within;
  work.copied_within_bytes = copied_within_bytes - before.copied_within_bytes;
  work.unpinned_copies = unpinned_copies - before.unpinned_copies;
  work.launches = launches - before.launches;
  return work;
}

void DeviceCounts::AddWork(const DeviceCounts& work) {
  copies_in += work.copies_in;
  copied_in_bytes += work.copied_in_bytes;
  copies_out += work.copies_out;
  copied_out_bytes += work.copied_out_bytes;
  copies_within += work.copies_within;
  copied_within_bytes += work.copied_within_bytes;
  unpinned_copies += work.unpinned_copies;
  launches += work.launches;
}

void DeviceCounts::Report(CounterVisitor& visitor) const {
  visitor.Gauge("device_taken_bytes", static_cast<double>(taken_bytes));
  visitor.Gauge("device_pinned_bytes", static_cast<double>(pinned_bytes));
  visitor.Counter("device_copies_in", copies_in);
  visitor.Counter("device_copied_in_bytes", copied_in_bytes);
  visitor.Counter("device_copies_out", copies_out);
  visitor.Counter("device_copied_out_bytes", copied_out_bytes);
  visitor.Counter("device_copies_within", copies_within);
  visitor.Counter("device_copied_within_bytes", copied_within_bytes);
  visitor.Counter("device_unpinned_copies", unpinned_copies);
  visitor.Counter("device_launches", launches);
  visitor.Counter("device_repeats", repeats);
  visitor.Counter("device_refused_recordings", refused_recordings);
  visitor.Counter("device_calls", calls);
  visitor.Counter("device_waits", waits);
}

}  // namespace stoker
