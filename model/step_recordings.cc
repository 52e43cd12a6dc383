// A few recordings, looked at one by one.
#include "model/step_recordings.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace stoker {

int32_t RecordedPositions(int32_t positions_max, int32_t context_max) {
  constexpr uint32_t kLeast = 256;
  const uint32_t bound = std::bit_ceil(std::max(static_cast<uint32_t>(positions_max), kLeast));
  return static_cast<int32_t>(std::min(bound, static_cast<uint32_t>(context_max)));
}

const DeviceRecording* StepRecordings::Find(const StepShape& shape) {
  for (Entry& entry : entries_) {
    if (entry.recording == nullptr || entry.shape != shape) continue;
    entry.used = ++use_count_;
    return entry.recording.get();
  }
  return nullptr;
}

bool StepRecordings::IsRepeating(const StepShape& shape) {
  return std::exchange(last_, shape) == shape;
}

const DeviceRecording& StepRecordings::Add(const StepShape& shape,
                                           std::unique_ptr<DeviceRecording> recording) {
  Entry& oldest = *std::min_element(entries_.begin(), entries_.end(),
                                    [](const Entry& a, const Entry& b) { return a.used < b.used; });
  oldest = {.shape = shape, .recording = std::move(recording), .used = ++use_count_};
  return *oldest.recording;
}

}  // namespace stoker
