// The processor and the device of a replay: they take experts as the model's mixtures do, and
// computing them moves the clock.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "cache/expert_cache.h"
#include "device/device.h"
#include "model/expert_batch.h"
#include "runtime/simulation/timing_model.h"

namespace stoker {

// Without a device the processor computes everything. With one the trunk is there: what a layer
// needs beside its experts is queued on it, the processor waits for the router's choice, and a
// layer's sum waits for the parts that the processor computed. One thread; `timing` and `clock`
// must outlive the machine, and the machine the store.
class ReplayedMachine {
 public:
  // A device whose memory is `vram_bytes` of slots; 0: none.
  static absl::StatusOr<std::unique_ptr<ReplayedMachine>> Create(const TimingModel& timing,
                                                                 uint64_t vram_bytes,
                                                                 VirtualClock& clock);

  Device* device() const { return device_.get(); }  // null: none

  // Begins all of a layer but its experts, behind what was begun before.
  void BeginLayer();
  // Until all that was begun is done, the last layer's experts with it.
  absl::Status Await();

  struct Layer {
    int layer = 0;
    uint64_t expert_bytes = 0;
    absl::Span<const int32_t> rows;  // by expert: how many rows of the step chose it
  };
  // Computes what the store was asked for, as it comes.
  absl::Status Compute(const Layer& layer, ExpertCache& store);
  // Has the device compute experts of a layer that it holds, once what was begun is done.
  void ComputeResident(const Layer& layer, int expert_count);

 private:
  // Experts in the processor's memory that are held and not yet computed, at the front.
  struct Held {
    ExpertRef refs[kHeldExpertsMax];
    int count = 0;
  };

  ReplayedMachine(const TimingModel& timing, VirtualClock& clock)
      : timing_(timing), clock_(clock) {}
  absl::Status TakeDevice(uint64_t vram_bytes);
  absl::Status ComputeOnHost(const Layer& layer, ExpertCache& store);
  absl::StatusOr<bool> CollectReady(const Layer& layer, int held_max, ExpertCache& store,
                                    Held& held);
  void LaunchGroups(const Layer& layer, absl::Span<ExpertRef> experts);
  void ComputeHeld(const Layer& layer, ExpertCache& store, Held& held);
  void Launch(int64_t ns);

  const TimingModel& timing_;
  VirtualClock& clock_;
  std::unique_ptr<Device> device_;
  DeviceBuffer parts_;             // where the processor's results go
  std::byte host_parts_[64] = {};  // and where they come from: their latency is what counts
};

}  // namespace stoker
