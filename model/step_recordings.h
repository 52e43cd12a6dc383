// Steps that were recorded on a device, by what they have in common.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "device/device.h"
#include "kernels/device_args.h"

namespace stoker {

// All that a step's launches depend on but the contents of memory.
struct StepShape {
  int64_t rows = 0;
  int64_t logits_rows = 0;
  bool wants_normed = false;  // of all rows
  bool has_exp_sums = false;
  int32_t positions_max = 0;
  // The attention cache: a layer's address and its table.
  const std::byte* keys = nullptr;
  const int32_t* table = nullptr;
  int32_t pages_per_sequence = 0;
  friend bool operator==(const StepShape&, const StepShape&) = default;
};

// A recording serves every position below its bound: the bounds are powers of two, so that a
// sequence that grows makes few recordings, and attention is launched for at most twice the
// positions there are.
int32_t RecordedPositions(int32_t positions_max, int32_t context_max);

// Holds the recordings used last. What allocates is Add alone, once a shape.
class StepRecordings {
 public:
  // Rows of a step above which launches are few for what they compute.
  static constexpr int64_t kRowsMax = 32;
  // Batches of a few sizes, and the bounds of positions that they grow through.
  static constexpr int kRecordingsMax = 8;

  // Null when there is none.
  const DeviceRecording* Find(const StepShape& shape);
  // Whether a step should be recorded: one like it came just before. So no recording is made of
  // what comes once, and all kernels of a recording have run before it (the driver loads a kernel
  // when it is first launched, which is better not done while recording).
  bool IsRepeating(const StepShape& shape);
  // In the place of the one used longest ago, which must not be under way.
  const DeviceRecording& Add(const StepShape& shape, std::unique_ptr<DeviceRecording> recording);

 private:
  struct Entry {
    StepShape shape;
    std::unique_ptr<DeviceRecording> recording;  // null: free
    int64_t used = 0;                            // number of the use
  };
  std::array<Entry, kRecordingsMax> entries_;
  StepShape last_;
  int64_t use_count_ = 0;
};

}  // namespace stoker
