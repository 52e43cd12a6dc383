// A GPU that is not there: host memory for its memory, the CPU for its kernels, and set rates and
// latencies for its time, so that all that is built on a device runs and is tested without one.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "device/buffer.h"
#include "device/device.h"
#include "device/device_counts.h"
#include "device/pinned_ranges.h"

namespace stoker {

// The times of an operation are fixed when it is queued:
//
//     start = the latest of: now, the end of the operation before it on its stream, the events that
//             the stream waits for
//     end   = start + latency + bytes / rate
//
// (a kernel: launch_ns, or repeat_ns behind another of the same recording, and the touched bytes at
// the memory's rate, and so a copy within the device, which touches each byte twice; another copy:
// the latency and the rate of its direction). Streams run side by side and do not slow each other.
// What an operation does is done when its end has come by the clock and somebody asks (Await,
// IsDone), never earlier, in the order of the ends over all streams, then of queueing. So a wait
// that was forgotten, a source overwritten before its copy was done, or a result read too early
// gives wrong bits, here as on a GPU. Kernels and copies run on the thread that asks; the time this
// takes is the host's, and the model knows nothing of it.
//
// On a virtual clock Await moves the clock; on the real one it sleeps. A stream holds
// kOperationsMax operations; when it is full, queueing waits for its oldest. Reaching outside of
// what was taken is found: by a CHECK for copies, by AddressSanitizer for kernels.
class ModelledDevice final : public Device {
 public:
  static constexpr int kOperationsMax = 1024;

  ~ModelledDevice() override;

  std::string_view kind() const override { return "modelled"; }
  const DeviceInfo& info() const override { return info_; }
  absl::StatusOr<DeviceBuffer> Take(uint64_t bytes) override;
  absl::Status Pin(absl::Span<std::byte> host) override;
  void Unpin(absl::Span<std::byte> host) override;
  void CopyIn(Stream stream, std::byte* device, const std::byte* host, size_t bytes) override;
  void CopyOut(Stream stream, std::byte* host, const std::byte* device, size_t bytes) override;
  void CopyWithin(Stream stream, std::byte* to, const std::byte* from, size_t bytes) override;
  void Launch(Stream stream, const KernelCall& call) override;
  DeviceEvent Record(Stream stream) override;
  void WaitFor(Stream stream, DeviceEvent event) override;
  bool IsDone(DeviceEvent event) override;
  absl::Status Await(DeviceEvent event) override;
  void BeginRecording(Stream stream) override;
  absl::StatusOr<std::unique_ptr<DeviceRecording>> EndRecording() override;
  void Repeat(Stream stream, const DeviceRecording& recording) override;
  // The counts of every device, and for each stream the modelled time of its copies and kernels.
  void Report(CounterVisitor& visitor) const override;

  // When the event comes, by the clock; of one that has come, some moment until then.
  int64_t EndNs(DeviceEvent event) const;
  // For tests: of the copies and kernels queued from here on, the nth (1 is the next) fails when
  // its end has come. Nothing that ends after it is done.
  void FailOperation(uint64_t nth) { failing_work_ = work_ + nth; }
  // For tests: the next `count` calls of Pin are refused.
  void RefusePins(int count) { refused_pins_ = count; }
  // For tests: the next `count` recordings cannot be made.
  void RefuseRecordings(int count) { refused_recordings_ = count; }

 private:
  friend absl::StatusOr<std::unique_ptr<ModelledDevice>> MakeModelledDevice(
      const DeviceOptions& options, Clock* clock);

  struct Operation {
    enum class Kind : uint8_t { kCopyIn, kCopyOut, kCopyWithin, kKernel, kWait };
    Kind kind;
    int64_t end_ns;
    uint64_t serial;  // over all streams, in order of queueing
    bool is_to_fail;
    std::byte* to;
    const std::byte* from;
    size_t bytes;
    KernelCall call;  // its args are below
    alignas(64) std::byte args[KernelCall::kArgsBytesMax];
  };
  // What is recorded: operations without times, and what they count for.
  class Recording final : public DeviceRecording {
   public:
    Stream stream = Stream::kCompute;
    std::vector<Operation> operations;
    DeviceCounts counts;  // while it is made: those of the device when it began
  };
  // Operation i since the beginning, counted from 1, is at (i - 1) % kOperationsMax.
  struct Queue {
    std::unique_ptr<Operation[]> ring;
    uint64_t queued = 0;
    uint64_t done = 0;
    int64_t end_ns = 0;   // of the last one queued
    int64_t busy_ns = 0;  // sum of the durations

    bool IsEmpty() const { return queued == done; }
    Operation& At(uint64_t sequence) const { return ring[(sequence - 1) % kOperationsMax]; }
    Operation& Oldest() const { return At(done + 1); }
  };
  struct Taken {
    HostBuffer memory;
    uint64_t bytes;
  };

  ModelledDevice(const DeviceOptions& options, Clock* clock);
  void GiveBack(std::byte* data, uint64_t bytes) override;

  Queue& QueueOf(Stream stream) { return queues_[static_cast<size_t>(stream)]; }
  const Queue& QueueOf(Stream stream) const { return queues_[static_cast<size_t>(stream)]; }
  // A place at the end of the stream with its times, waiting for one if need be; null when the
  // device has failed.
  Operation* Queued(Stream stream, Operation::Kind kind, int64_t duration_ns);
  // As Queued, for what the host asks; in the recording while one is made.
  Operation* Asked(Stream stream, Operation::Kind kind, int64_t duration_ns);
  // Null when the device has failed.
  Operation* Copy(Stream stream, Operation::Kind kind, std::byte* to, const std::byte* from,
                  size_t bytes);
  int64_t DurationNs(const Operation& operation, int64_t launch_ns) const;
  void CountHost(const std::byte* host, size_t bytes);
  // Does all that ends until `now_ns`.
  void RunDue(int64_t now_ns);
  void Perform(const Operation& operation);
  static std::string NameOf(const Operation& operation);  // for errors
  // Waits until all that is queued is done.
  void Drain();
  bool IsTaken(const std::byte* device, size_t bytes) const;

  DeviceOptions options_;
  RealClock real_clock_;
  Clock& clock_;
  DeviceInfo info_;
  std::array<Queue, kStreamCount> queues_;
  std::vector<Taken> taken_;
  PinnedRanges pinned_;
  DeviceCounts counts_;
  uint64_t serial_ = 0;
  uint64_t work_ = 0;  // copies and kernels queued
  uint64_t failing_work_ = 0;
  int refused_pins_ = 0;
  int refused_recordings_ = 0;
  std::unique_ptr<Recording> recording_;  // being made
  absl::Status status_;
};

// On `clock`, which must outlive it; null: on the real one. InvalidArgument for rates that are not
// above 0, latencies below 0, and no memory.
absl::StatusOr<std::unique_ptr<ModelledDevice>> MakeModelledDevice(const DeviceOptions& options,
                                                                   Clock* clock = nullptr);

}  // namespace stoker
