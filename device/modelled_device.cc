// Queues of operations, performed by their modelled times.
#include "device/modelled_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/units.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace stoker {
namespace {

// Behind each buffer, so that with AddressSanitizer what reaches past its end is found.
constexpr uint64_t kGuardBytes = 4096;

void Guard([[maybe_unused]] const HostBuffer& memory, [[maybe_unused]] uint64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(memory.data() + bytes, memory.bytes() - bytes);
#endif
}

// The addresses may be mapped again for something else.
void Unguard([[maybe_unused]] const HostBuffer& memory) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(memory.data(), memory.bytes());
#endif
}

// Eleven days at most, so that sums of times stay in range.
int64_t TimeNs(int64_t latency_ns, uint64_t bytes, double bytes_per_second) {
  const double ns = std::ceil(static_cast<double>(bytes) / bytes_per_second * 1e9);
  return latency_ns + static_cast<int64_t>(std::min(ns, 1e15));
}

absl::Status CheckOptions(const DeviceOptions& options) {
  const ModelledRates& rates = options.rates;
  if (!(rates.memory_bytes_per_second > 0) || !(rates.copy_in_bytes_per_second > 0) ||
      !(rates.copy_out_bytes_per_second > 0)) {
    return absl::InvalidArgumentError(fmt::format(
        "a modelled GPU cannot have rates of {} B/s (memory), {} B/s (copies in) and {} "
        "B/s (copies out); each must be above 0",
        rates.memory_bytes_per_second, rates.copy_in_bytes_per_second,
        rates.copy_out_bytes_per_second));
  }
  if (rates.launch_ns < 0 || rates.repeat_ns < 0 || rates.copy_in_ns < 0 || rates.copy_out_ns < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "a modelled GPU cannot have latencies of {} ns (kernels), {} ns (kernels of a "
        "recording), {} ns (copies in) and {} ns (copies out); they must not be below 0",
        rates.launch_ns, rates.repeat_ns, rates.copy_in_ns, rates.copy_out_ns));
  }
  if (options.modelled_memory_bytes == 0) {
    return absl::InvalidArgumentError("a modelled GPU needs memory; give it more than 0 bytes");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelledDevice>> MakeModelledDevice(const DeviceOptions& options,
                                                                   Clock* clock) {
  absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  return std::unique_ptr<ModelledDevice>(new ModelledDevice(options, clock));
}

ModelledDevice::ModelledDevice(const DeviceOptions& options, Clock* clock)
    : options_(options), clock_(clock == nullptr ? real_clock_ : *clock) {
  for (Queue& queue : queues_) {
    // A page of it costs memory when it is first used.
    queue.ring = std::make_unique_for_overwrite<Operation[]>(kOperationsMax);
  }
  info_.name = "modelled GPU";
  info_.description = fmt::format(
      "modelled GPU: {} at {}, copies in at {} after {} us, out at {} after {} us; its kernels run "
      "on the CPU",
      FormatBytes(options.modelled_memory_bytes), FormatRate(options.rates.memory_bytes_per_second),
      FormatRate(options.rates.copy_in_bytes_per_second), options.rates.copy_in_ns / 1000,
      FormatRate(options.rates.copy_out_bytes_per_second), options.rates.copy_out_ns / 1000);
  info_.memory_bytes = options.modelled_memory_bytes;
  info_.available_bytes = options.modelled_memory_bytes;
}

ModelledDevice::~ModelledDevice() { CHECK(taken_.empty()); }

absl::StatusOr<DeviceBuffer> ModelledDevice::Take(uint64_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  const uint64_t left = options_.modelled_memory_bytes - counts_.taken_bytes;
  if (bytes > left) {
    return absl::ResourceExhaustedError(fmt::format(
        "cannot take {} of the modelled GPU's memory: {} of its {} are left; ask for less, or "
        "model a GPU with more",
        FormatBytes(bytes), FormatBytes(left), FormatBytes(options_.modelled_memory_bytes)));
  }
  auto memory = HostBuffer::Create(bytes + kGuardBytes, HostBuffer::Touch::kLazily);
  if (!memory.ok()) return memory.status();
  Guard(*memory, bytes);
  std::byte* data = memory->data();
  taken_.push_back({.memory = *std::move(memory), .bytes = bytes});
  counts_.taken_bytes += bytes;
  return DeviceBuffer(this, data, bytes);
}

void ModelledDevice::GiveBack(std::byte* data, uint64_t bytes) {
  Drain();
  const auto found = std::find_if(taken_.begin(), taken_.end(),
                                  [&](const Taken& t) { return t.memory.data() == data; });
  CHECK(found != taken_.end() && found->bytes == bytes);
  Unguard(found->memory);
  taken_.erase(found);
  counts_.taken_bytes -= bytes;
}

absl::Status ModelledDevice::Pin(absl::Span<std::byte> host) {
  if (refused_pins_ > 0) {
    --refused_pins_;
    return absl::ResourceExhaustedError(fmt::format(
        "cannot pin {} of memory: refused, as the modelled GPU was told to; tell it otherwise",
        FormatBytes(host.size())));
  }
  pinned_.Add(host);
  counts_.pinned_bytes += host.size();
  return absl::OkStatus();
}

void ModelledDevice::Unpin(absl::Span<std::byte> host) {
  Drain();
  pinned_.Remove(host);
  counts_.pinned_bytes -= host.size();
}

ModelledDevice::Operation* ModelledDevice::Queued(Stream stream, Operation::Kind kind,
                                                  int64_t duration_ns) {
  Queue& queue = QueueOf(stream);
  if (queue.queued - queue.done == kOperationsMax) {
    clock_.SleepUntilNs(queue.Oldest().end_ns);
    RunDue(clock_.NowNs());
  }
  if (!status_.ok()) return nullptr;
  Operation& operation = queue.At(++queue.queued);
  queue.end_ns = std::max(queue.end_ns, clock_.NowNs()) + duration_ns;
  queue.busy_ns += duration_ns;
  operation.kind = kind;
  operation.end_ns = queue.end_ns;
  operation.serial = ++serial_;
  operation.is_to_fail = kind != Operation::Kind::kWait && ++work_ == failing_work_;
  return &operation;
}

ModelledDevice::Operation* ModelledDevice::Asked(Stream stream, Operation::Kind kind,
                                                 int64_t duration_ns) {
  if (recording_ == nullptr) {
    ++counts_.calls;
    return Queued(stream, kind, duration_ns);
  }
  CHECK(stream == recording_->stream && kind != Operation::Kind::kWait);
  if (!status_.ok()) return nullptr;
  Operation& operation = recording_->operations.emplace_back();
  operation.kind = kind;
  return &operation;
}

int64_t ModelledDevice::DurationNs(const Operation& operation, int64_t launch_ns) const {
  const ModelledRates& rates = options_.rates;
  switch (operation.kind) {
    case Operation::Kind::kWait:
      return 0;
    case Operation::Kind::kCopyIn:
      return TimeNs(rates.copy_in_ns, operation.bytes, rates.copy_in_bytes_per_second);
    case Operation::Kind::kCopyOut:
      return TimeNs(rates.copy_out_ns, operation.bytes, rates.copy_out_bytes_per_second);
    case Operation::Kind::kCopyWithin:
      return TimeNs(launch_ns, 2 * operation.bytes, rates.memory_bytes_per_second);
    case Operation::Kind::kKernel:
      return TimeNs(launch_ns, operation.call.touched_bytes, rates.memory_bytes_per_second);
  }
  return 0;
}

void ModelledDevice::CountHost(const std::byte* host, size_t bytes) {
  counts_.unpinned_copies += pinned_.Contains(host, bytes) ? 0 : 1;
}

ModelledDevice::Operation* ModelledDevice::Copy(Stream stream, Operation::Kind kind, std::byte* to,
                                                const std::byte* from, size_t bytes) {
  Operation copy;
  copy.kind = kind;
  copy.bytes = bytes;
  Operation* operation = Asked(stream, kind, DurationNs(copy, options_.rates.launch_ns));
  if (operation == nullptr) return nullptr;
  operation->to = to;
  operation->from = from;
  operation->bytes = bytes;
  return operation;
}

void ModelledDevice::CopyIn(Stream stream, std::byte* device, const std::byte* host, size_t bytes) {
  if (bytes == 0) return;
  CHECK(IsTaken(device, bytes));
  if (Copy(stream, Operation::Kind::kCopyIn, device, host, bytes) == nullptr) return;
  ++counts_.copies_in;
  counts_.copied_in_bytes += bytes;
  CountHost(host, bytes);
}

void ModelledDevice::CopyOut(Stream stream, std::byte* host, const std::byte* device,
                             size_t bytes) {
  if (bytes == 0) return;
  CHECK(IsTaken(device, bytes));
  if (Copy(stream, Operation::Kind::kCopyOut, host, device, bytes) == nullptr) return;
  ++counts_.copies_out;
  counts_.copied_out_bytes += bytes;
  CountHost(host, bytes);
}

void ModelledDevice::CopyWithin(Stream stream, std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes == 0) return;
  CHECK(IsTaken(to, bytes) && IsTaken(from, bytes));
  if (Copy(stream, Operation::Kind::kCopyWithin, to, from, bytes) == nullptr) return;
  ++counts_.copies_within;
  counts_.copied_within_bytes += bytes;
}

void ModelledDevice::Launch(Stream stream, const KernelCall& call) {
  CHECK(call.run != nullptr && call.args_bytes <= KernelCall::kArgsBytesMax);
  Operation* operation = Asked(
      stream, Operation::Kind::kKernel,
      TimeNs(options_.rates.launch_ns, call.touched_bytes, options_.rates.memory_bytes_per_second));
  if (operation == nullptr) return;
  if (call.args_bytes > 0) std::memcpy(operation->args, call.args, call.args_bytes);
  operation->call = call;
  operation->call.args = operation->args;
  ++counts_.launches;
}

void ModelledDevice::BeginRecording(Stream stream) {
  CHECK(recording_ == nullptr);
  recording_ = std::make_unique<Recording>();
  recording_->stream = stream;
  recording_->counts = counts_;
}

absl::StatusOr<std::unique_ptr<DeviceRecording>> ModelledDevice::EndRecording() {
  CHECK(recording_ != nullptr);
  std::unique_ptr<Recording> recording = std::move(recording_);
  const DeviceCounts before = recording->counts;
  recording->counts = counts_.WorkSince(before);
  counts_ = before;
  if (!status_.ok()) return status_;
  if (refused_recordings_ > 0) {
    --refused_recordings_;
    ++counts_.refused_recordings;
    return absl::ResourceExhaustedError(
        fmt::format("modelled GPU: a recording of {} operations cannot be made: refused, as it was "
                    "told to; tell it otherwise",
                    recording->operations.size()));
  }
  return recording;
}

void ModelledDevice::Repeat(Stream stream, const DeviceRecording& recording) {
  CHECK(recording_ == nullptr);
  const auto& recorded = static_cast<const Recording&>(recording);
  int64_t launch_ns = options_.rates.launch_ns;
  ++counts_.calls;
  ++counts_.repeats;
  for (const Operation& work : recorded.operations) {
    Operation* operation = Queued(stream, work.kind, DurationNs(work, launch_ns));
    if (operation == nullptr) return;
    operation->to = work.to;
    operation->from = work.from;
    operation->bytes = work.bytes;
    if (work.kind != Operation::Kind::kKernel) continue;
    launch_ns = options_.rates.repeat_ns;
    std::memcpy(operation->args, work.args, work.call.args_bytes);
    operation->call = work.call;
    operation->call.args = operation->args;
  }
  counts_.AddWork(recorded.counts);
}

// An event is the number of operations before it, so there is nothing to hold for it.
DeviceEvent ModelledDevice::Record(Stream stream) {
  CHECK(recording_ == nullptr);
  ++counts_.calls;
  return {stream, QueueOf(stream).queued};
}

// An operation of its own, so that events recorded between it and the next one wait as well.
void ModelledDevice::WaitFor(Stream stream, DeviceEvent event) {
  CHECK(recording_ == nullptr);
  if (event.stream == stream || event.sequence <= QueueOf(event.stream).done) return;
  ++counts_.calls;
  const int64_t event_ns = EndNs(event);
  Operation* operation = Queued(stream, Operation::Kind::kWait, 0);
  if (operation == nullptr) return;
  Queue& queue = QueueOf(stream);
  queue.end_ns = std::max(queue.end_ns, event_ns);
  operation->end_ns = queue.end_ns;
}

int64_t ModelledDevice::EndNs(DeviceEvent event) const {
  const Queue& queue = QueueOf(event.stream);
  CHECK(event.sequence <= queue.queued);
  return event.sequence <= queue.done ? 0 : queue.At(event.sequence).end_ns;
}

bool ModelledDevice::IsDone(DeviceEvent event) {
  CHECK(recording_ == nullptr);
  const Queue& queue = QueueOf(event.stream);
  CHECK(event.sequence <= queue.queued);
  if (event.sequence > queue.done) RunDue(clock_.NowNs());
  return event.sequence <= queue.done;
}

absl::Status ModelledDevice::Await(DeviceEvent event) {
  CHECK(recording_ == nullptr);
  const Queue& queue = QueueOf(event.stream);
  CHECK(event.sequence <= queue.queued);
  if (event.sequence > queue.done) {
    ++counts_.waits;
    ++counts_.calls;
    clock_.SleepUntilNs(EndNs(event));
    RunDue(clock_.NowNs());
  }
  return status_;
}

void ModelledDevice::RunDue(int64_t now_ns) {
  for (;;) {
    Queue* next = nullptr;
    for (Queue& queue : queues_) {
      if (queue.IsEmpty() || queue.Oldest().end_ns > now_ns) continue;
      const auto key = [](const Queue& q) {
        return std::pair(q.Oldest().end_ns, q.Oldest().serial);
      };
      if (next == nullptr || key(queue) < key(*next)) next = &queue;
    }
    if (next == nullptr) return;
    Perform(next->Oldest());
    ++next->done;
    if (status_.ok()) continue;
    for (Queue& queue : queues_) queue.done = queue.queued;
    return;
  }
}

std::string ModelledDevice::NameOf(const Operation& operation) {
  switch (operation.kind) {
    case Operation::Kind::kWait:
      return "wait";
    case Operation::Kind::kCopyIn:
      return fmt::format("copy in of {} bytes", operation.bytes);
    case Operation::Kind::kCopyOut:
      return fmt::format("copy out of {} bytes", operation.bytes);
    case Operation::Kind::kCopyWithin:
      return fmt::format("copy within of {} bytes", operation.bytes);
    case Operation::Kind::kKernel:
      return fmt::format("kernel {}", operation.call.name);
  }
  return "";
}

void ModelledDevice::Perform(const Operation& operation) {
  using Kind = Operation::Kind;
  if (options_.modelled_times_only && !operation.is_to_fail) return;
  int error = 0;
  switch (operation.kind) {
    case Kind::kWait:
      return;
    case Kind::kCopyIn:
    case Kind::kCopyOut:
    case Kind::kCopyWithin:
      if (operation.is_to_fail) break;
      std::memcpy(operation.to, operation.from, operation.bytes);
      return;
    case Kind::kKernel:
      if (operation.is_to_fail) break;
      error = operation.call.run(operation.call.args, nullptr);
      if (error == 0) return;
  }
  const std::string what = NameOf(operation);
  status_ = absl::InternalError(
      error != 0 ? fmt::format("modelled GPU: {} failed with error {}; its arguments are likely "
                               "ones that it cannot work on. Run with --device cpu instead",
                               what, error)
                 : fmt::format("modelled GPU: {} failed, as it was told to", what));
}

void ModelledDevice::Drain() {
  for (Queue& queue : queues_) {
    if (!queue.IsEmpty()) clock_.SleepUntilNs(queue.end_ns);
  }
  RunDue(clock_.NowNs());
}

bool ModelledDevice::IsTaken(const std::byte* device, size_t bytes) const {
  return std::any_of(taken_.begin(), taken_.end(), [&](const Taken& taken) {
    return device >= taken.memory.data() && device + bytes <= taken.memory.data() + taken.bytes;
  });
}

void ModelledDevice::Report(CounterVisitor& visitor) const {
  counts_.Report(visitor);
  const auto busy_ns = [&](Stream stream) {
    return static_cast<uint64_t>(QueueOf(stream).busy_ns);
  };
  visitor.Counter("modelled_compute_busy_ns", busy_ns(Stream::kCompute));
  visitor.Counter("modelled_background_busy_ns", busy_ns(Stream::kBackground));
  visitor.Counter("modelled_copy_in_busy_ns", busy_ns(Stream::kCopyIn));
  visitor.Counter("modelled_copy_out_busy_ns", busy_ns(Stream::kCopyOut));
}

}  // namespace stoker
