// One accelerator: its memory, its streams of work, and the copies between it and the host.
//
// Work is queued on streams and runs later, each stream in its own order; events order streams
// among each other and tell the host how far they are. What a copy reads or writes on the host, and
// what a kernel is given, must stay as it is until the work is done. Memory is taken at start;
// nothing that is queued allocates.
//
// Queueing cannot fail. The first error of queued work is kept, with the name of the operation, and
// is what every Await returns from then on: the device is of no further use. One thread uses a
// device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"
#include "device/device_buffer.h"

namespace stoker {

// Streams run side by side, the work of each in order. Where the device has not room for both,
// kernels of kBackground give way to those of kCompute.
enum class Stream : uint8_t { kCompute, kBackground, kCopyIn, kCopyOut };
inline constexpr int kStreamCount = 4;

// A place in a stream: all that was queued on it before. The default is the beginning of time.
struct DeviceEvent {
  Stream stream = Stream::kCompute;
  uint64_t sequence = 0;  // per stream, ascending; 0: done always
};

struct DeviceInfo {
  std::string name;         // "NVIDIA GeForce RTX 4090", "modelled GPU"
  std::string description;  // for the operator: which of how many, its link, its driver
  uint64_t memory_bytes = 0;
  uint64_t available_bytes = 0;  // when it was opened
  int multiprocessor_count = 0;  // 0: modelled
  int numa_node = -1;            // of the host memory near it; -1: unknown or only one
  // The link to the host as it is now, of the generations of PCIe; 0: not known.
  int link_generation = 0;
  int link_width = 0;
};

// A kernel with its arguments, ready to be queued. The arguments are copied.
struct KernelCall {
  static constexpr size_t kArgsBytesMax = 1024;
  std::string_view name;  // static text: names the operation in errors and counts
  // Starts the kernel on the stream's native handle and returns 0, or the runtime's error code. On
  // a modelled device: computes, with a null handle.
  int (*run)(const void* args, void* native_stream) = nullptr;
  const void* args = nullptr;
  size_t args_bytes = 0;
  uint64_t touched_bytes = 0;  // of device memory, read and written: what its time is modelled by
};

// Copies and kernels that were recorded, to be queued again as one. It must go before its device,
// and not before what was queued of it is done.
class DeviceRecording {
 public:
  virtual ~DeviceRecording() = default;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view kind() const = 0;  // "cuda", "modelled"
  virtual const DeviceInfo& info() const = 0;

  // Takes device memory, zeroed. ResourceExhausted, with what is left, when there is not enough.
  virtual absl::StatusOr<DeviceBuffer> Take(uint64_t bytes) = 0;
  // Makes host memory a source and target of copies that do not hold up the host (page-locks it),
  // until Unpin, which must come before the memory goes and waits for all that is queued. Starts at
  // a page; ranges do not overlap. ResourceExhausted when the system refuses (the message says
  // which limit). Copies with memory that is not pinned are right as well, but slow, and counted.
  virtual absl::Status Pin(absl::Span<std::byte> host) = 0;
  virtual void Unpin(absl::Span<std::byte> host) = 0;

  // Any copy may go to any stream: order is the stream's.
  virtual void CopyIn(Stream stream, std::byte* device, const std::byte* host, size_t bytes) = 0;
  virtual void CopyOut(Stream stream, std::byte* host, const std::byte* device, size_t bytes) = 0;
  // Within device memory; the places do not overlap.
  virtual void CopyWithin(Stream stream, std::byte* to, const std::byte* from, size_t bytes) = 0;
  virtual void Launch(Stream stream, const KernelCall& call) = 0;

  // Marks the present end of a stream. At most kEventsMax marks of a stream are unfinished: the
  // next waits for the oldest.
  static constexpr int kEventsMax = 1024;
  // A later event of a stream has no lower sequence.
  virtual DeviceEvent Record(Stream stream) = 0;
  // What is queued on `stream` from here on starts after `event`.
  virtual void WaitFor(Stream stream, DeviceEvent event) = 0;
  // Whether the event has come; never blocks. True also once the device has failed.
  virtual bool IsDone(DeviceEvent event) = 0;
  // Blocks until the event has come; the device's error if it has failed.
  virtual absl::Status Await(DeviceEvent event) = 0;

  // Records the copies and kernels that are queued on a stream from here on, instead of queueing
  // them: addresses and arguments as they are now, and none of what is in memory. Until
  // EndRecording nothing else may be asked of the device.
  virtual void BeginRecording(Stream stream) = 0;
  // Allocates, once for all repeats. The device's error; or another, naming the recording, when it
  // cannot be made, which leaves the device of use.
  virtual absl::StatusOr<std::unique_ptr<DeviceRecording>> EndRecording() = 0;
  // Queues all that was recorded, in its order: one call, whatever it holds.
  virtual void Repeat(Stream stream, const DeviceRecording& recording) = 0;

  // DeviceCounts (device_counts.h), at least.
  virtual void Report(CounterVisitor& visitor) const = 0;

 protected:
  friend class DeviceBuffer;
  virtual void GiveBack(std::byte* data, uint64_t bytes) = 0;
};

// How fast a modelled GPU is. Times of work on it: latency + bytes / rate, one after another on a
// stream. Streams take nothing from each other, which is too good where both are bound by the same
// memory.
struct ModelledRates {
  double memory_bytes_per_second = 900e9;  // kernels, by what they touch; infinity is a rate
  double copy_in_bytes_per_second = 24e9;
  double copy_out_bytes_per_second = 24e9;
  int64_t launch_ns = 3'000;   // from the end of one kernel to the start of the next
  int64_t repeat_ns = 1'000;   // the same within a recording that is repeated
  int64_t copy_in_ns = 8'000;  // a copy's latency
  int64_t copy_out_ns = 8'000;
};

struct DeviceOptions {
  int index = -1;  // cuda: which GPU; -1: the one with the most free memory
  // modelled
  ModelledRates rates = {};
  uint64_t modelled_memory_bytes = uint64_t{24} << 30;
  // Copies and kernels take their time and are not done: for replays, whose memory nobody touches.
  bool modelled_times_only = false;
};

struct DeviceRow {
  std::string_view name;  // "cuda", "modelled"
  std::string_view description;
  bool (*is_built_in)();
  // Errors: FailedPrecondition saying what is missing (support not built in, no driver, no GPU);
  // InvalidArgument for options that make no sense.
  absl::StatusOr<std::unique_ptr<Device>> (*open)(const DeviceOptions& options);
};
// In devices.cc, in order.
absl::Span<const DeviceRow> Devices();
// InvalidArgument listing the known kinds; else as DeviceRow::open.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(std::string_view kind,
                                                   const DeviceOptions& options);
// The number of GPUs that a run could use now; 0 without CUDA in the build or a driver.
int UsableGpuCount();

}  // namespace stoker
