// A GPU by the CUDA runtime: its streams, rings of events, graphs, and errors that say what was
// running.
#include "device/cuda_device.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda_errors.h"
#include "device/device_counts.h"
#include "device/pcie_link.h"
#include "device/pinned_ranges.h"

namespace stoker {
namespace {

// What was queued, for errors that come later.
struct Work {
  enum class Kind : uint8_t { kNone, kKernel, kCopyIn, kCopyOut, kCopyWithin, kRepeat };
  Kind kind = Kind::kNone;
  std::string_view name;  // of a kernel; of the last kernel of a recording
  size_t bytes = 0;       // of a copy
  uint64_t launches = 0;  // of a recording

  std::string Text() const {
    if (kind == Kind::kKernel) return fmt::format("kernel {}", name);
    if (kind == Kind::kRepeat) {
      return fmt::format("repeat of {} recorded kernels, the last {}", launches, name);
    }
    const std::string_view way = kind == Kind::kCopyIn    ? "in"
                                 : kind == Kind::kCopyOut ? "out"
                                                          : "within";
    return fmt::format("copy {} of {} bytes", way, bytes);
  }
};

// For a call that may fail without consequences.
cudaError_t Forgotten(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

// A graph that can be launched.
class CudaRecording final : public DeviceRecording {
 public:
  CudaRecording(int device, cudaGraphExec_t graph) : device_(device), graph_(graph) {}
  ~CudaRecording() override {
    Forgotten(cudaSetDevice(device_));
    Forgotten(cudaGraphExecDestroy(graph_));
  }
  CudaRecording(const CudaRecording&) = delete;
  CudaRecording& operator=(const CudaRecording&) = delete;
  cudaGraphExec_t graph() const { return graph_; }

  Work work;            // for errors
  DeviceCounts counts;  // of what it holds

 private:
  int device_;
  cudaGraphExec_t graph_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, DeviceInfo info) : index_(index), info_(std::move(info)) {}
  ~CudaDevice() override;
  // Makes streams and events. To be called once, before anything else.
  absl::Status Open();

  std::string_view kind() const override { return "cuda"; }
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
  void Report(CounterVisitor& visitor) const override { counts_.Report(visitor); }

 private:
  static constexpr int kRecentMax = 8;

  // Event i of a stream, counted from 1, is events[i % kEventsMax] until i + kEventsMax is
  // recorded.
  struct Queue {
    cudaStream_t stream = nullptr;
    std::array<cudaEvent_t, kEventsMax> events = {};
    uint64_t recorded = 0;
    uint64_t done = 0;  // known to have come

    cudaEvent_t EventOf(uint64_t sequence) const { return events[sequence % kEventsMax]; }
  };

  Queue& QueueOf(Stream stream) { return queues_[static_cast<size_t>(stream)]; }
  void GiveBack(std::byte* data, uint64_t bytes) override;
  // The runtime's current device is the thread's.
  void UseHere();
  bool IsUsable() {
    UseHere();
    return status_.ok();
  }
  // What cannot be recorded is not run instead.
  bool CanQueue() {
    return IsUsable() && (!is_recording_ || (is_captured_ && recording_status_.ok()));
  }
  void CountHost(const std::byte* host, size_t bytes) {
    counts_.unpinned_copies += pinned_.Contains(host, bytes) ? 0 : 1;
  }
  // The graph of the recording that ends, ready to be launched.
  absl::StatusOr<cudaGraphExec_t> MakeGraph(std::string_view what);
  // Notes that `work` was queued, or that this failed.
  void Note(int error, const Work& work);
  // Of work that was queued before; what exactly is not known.
  void NoteLate(cudaError_t error);
  // Waits until all that is queued is done.
  void Settle();

  int index_;
  DeviceInfo info_;
  std::array<Queue, kStreamCount> queues_;
  PinnedRanges pinned_;
  DeviceCounts counts_;
  bool is_recording_ = false;
  bool is_captured_ = false;  // the stream, by the runtime: while recording, unless that failed
  Stream recorded_stream_ = Stream::kCompute;
  DeviceCounts counts_before_;     // the recording that is being made
  absl::Status recording_status_;  // the first error of what is recorded
  std::string_view last_kernel_;
  std::thread::id thread_;
  std::array<Work, kRecentMax> recent_;
  uint64_t recent_count_ = 0;
  absl::Status status_;
};

absl::Status CudaDevice::Open() {
  UseHere();
  int least = 0;
  int greatest = 0;  // is the lower number
  if (const cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest)) {
    return CudaFailure(error, "asking for the priorities of streams");
  }
  for (Queue& queue : queues_) {
    const int priority = &queue == &QueueOf(Stream::kBackground) ? least : greatest;
    if (const cudaError_t error =
            cudaStreamCreateWithPriority(&queue.stream, cudaStreamNonBlocking, priority)) {
      return CudaFailure(error, "making a stream");
    }
    for (cudaEvent_t& event : queue.events) {
      if (const cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming)) {
        return CudaFailure(error, "making an event");
      }
    }
  }
  return absl::OkStatus();
}

CudaDevice::~CudaDevice() {
  CHECK(counts_.taken_bytes == 0);
  Settle();
  for (Queue& queue : queues_) {
    for (const cudaEvent_t event : queue.events) {
      if (event != nullptr) Forgotten(cudaEventDestroy(event));
    }
    if (queue.stream != nullptr) Forgotten(cudaStreamDestroy(queue.stream));
  }
}

void CudaDevice::UseHere() {
  if (thread_ == std::this_thread::get_id()) return;
  thread_ = std::this_thread::get_id();
  const cudaError_t error = cudaSetDevice(index_);
  if (error != cudaSuccess && status_.ok()) status_ = CudaFailure(error, "choosing the GPU");
}

void CudaDevice::Note(int error, const Work& work) {
  ++counts_.calls;
  recent_[recent_count_++ % kRecentMax] = work;
  if (error == 0) return;
  // A runtime that will not record something may well run it.
  absl::Status& status = is_recording_ ? recording_status_ : status_;
  if (status.ok()) status = CudaFailure(error, work.Text());
  if (is_recording_) Forgotten(static_cast<cudaError_t>(error));
}

void CudaDevice::NoteLate(cudaError_t error) {
  if (error == cudaSuccess || !status_.ok()) return;
  std::string recent;
  const uint64_t first = recent_count_ - std::min<uint64_t>(recent_count_, kRecentMax);
  for (uint64_t i = first; i < recent_count_; ++i) {
    recent += fmt::format("{}{}", recent.empty() ? "" : ", ", recent_[i % kRecentMax].Text());
  }
  status_ = CudaFailure(error, fmt::format("work queued before (last: {})", recent));
}

void CudaDevice::Settle() {
  if (IsUsable()) NoteLate(cudaDeviceSynchronize());
}

absl::StatusOr<DeviceBuffer> CudaDevice::Take(uint64_t bytes) {
  if (bytes == 0) return DeviceBuffer();
  if (!IsUsable()) return status_;
  void* data = nullptr;
  cudaError_t error = Forgotten(cudaMalloc(&data, bytes));
  if (error == cudaErrorMemoryAllocation) {
    size_t left_bytes = 0;
    size_t total_bytes = 0;
    Forgotten(cudaMemGetInfo(&left_bytes, &total_bytes));
    return absl::ResourceExhaustedError(fmt::format(
        "cannot take {} of the GPU's memory: {} of its {} are left, perhaps in pieces; this run "
        "holds {}, and other programs may hold more (nvidia-smi shows them). Ask for less "
        "(--vram), "
        "or stop them",
        FormatBytes(bytes), FormatBytes(left_bytes), FormatBytes(total_bytes),
        FormatBytes(counts_.taken_bytes)));
  }
  if (error != cudaSuccess) return CudaFailure(error, fmt::format("taking {}", FormatBytes(bytes)));
  // Our streams do not wait for the default one, where this goes.
  error = cudaMemset(data, 0, bytes);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    Forgotten(cudaFree(data));
    NoteLate(error);
    return status_;
  }
  counts_.taken_bytes += bytes;
  return DeviceBuffer(this, static_cast<std::byte*>(data), bytes);
}

void CudaDevice::GiveBack(std::byte* data, uint64_t bytes) {
  Settle();
  Forgotten(cudaFree(data));
  counts_.taken_bytes -= bytes;
}

std::string LockedMemoryLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return "locked memory is not limited (ulimit -l), so likely the system has too little that is "
           "free, or the container forbids it. Ask for less (--ram)";
  }
  return fmt::format(
      "locked memory is limited to {} (ulimit -l). Raise the limit (ulimit -l unlimited, "
      "LimitMEMLOCK=infinity of a service, --ulimit memlock=-1 of a container), or ask for less "
      "(--ram)",
      FormatBytes(limit.rlim_cur));
}

absl::Status CudaDevice::Pin(absl::Span<std::byte> host) {
  if (!IsUsable()) return status_;
  const cudaError_t error =
      Forgotten(cudaHostRegister(host.data(), host.size(), cudaHostRegisterDefault));
  if (error != cudaSuccess) {
    return absl::ResourceExhaustedError(
        fmt::format("cannot pin {} of memory for the GPU: {}; {}", FormatBytes(host.size()),
                    cudaGetErrorString(error), LockedMemoryLimit()));
  }
  pinned_.Add(host);
  counts_.pinned_bytes += host.size();
  return absl::OkStatus();
}

void CudaDevice::Unpin(absl::Span<std::byte> host) {
  Settle();
  pinned_.Remove(host);
  counts_.pinned_bytes -= host.size();
  Forgotten(cudaHostUnregister(host.data()));
}

void CudaDevice::CopyIn(Stream stream, std::byte* device, const std::byte* host, size_t bytes) {
  if (bytes == 0 || !CanQueue()) return;
  const cudaError_t error =
      cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, QueueOf(stream).stream);
  Note(error, {.kind = Work::Kind::kCopyIn, .bytes = bytes});
  ++counts_.copies_in;
  counts_.copied_in_bytes += bytes;
  CountHost(host, bytes);
}

void CudaDevice::CopyOut(Stream stream, std::byte* host, const std::byte* device, size_t bytes) {
  if (bytes == 0 || !CanQueue()) return;
  const cudaError_t error =
      cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, QueueOf(stream).stream);
  Note(error, {.kind = Work::Kind::kCopyOut, .bytes = bytes});
  ++counts_.copies_out;
  counts_.copied_out_bytes += bytes;
  CountHost(host, bytes);
}

void CudaDevice::CopyWithin(Stream stream, std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes == 0 || !CanQueue()) return;
  const cudaError_t error =
      cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, QueueOf(stream).stream);
  Note(error, {.kind = Work::Kind::kCopyWithin, .bytes = bytes});
  ++counts_.copies_within;
  counts_.copied_within_bytes += bytes;
}

void CudaDevice::Launch(Stream stream, const KernelCall& call) {
  CHECK(call.run != nullptr && call.args_bytes <= KernelCall::kArgsBytesMax);
  if (!CanQueue()) return;
  Note(call.run(call.args, QueueOf(stream).stream),
       {.kind = Work::Kind::kKernel, .name = call.name});
  last_kernel_ = call.name;
  ++counts_.launches;
}

DeviceEvent CudaDevice::Record(Stream stream) {
  CHECK(!is_recording_);
  Queue& queue = QueueOf(stream);
  if (!IsUsable()) return {stream, queue.recorded};
  ++counts_.calls;
  const uint64_t sequence = queue.recorded + 1;
  if (sequence > kEventsMax && sequence - kEventsMax > queue.done) {
    NoteLate(cudaEventSynchronize(queue.EventOf(sequence)));
    queue.done = sequence - kEventsMax;
  }
  NoteLate(cudaEventRecord(queue.EventOf(sequence), queue.stream));
  queue.recorded = sequence;
  return {stream, sequence};
}

void CudaDevice::WaitFor(Stream stream, DeviceEvent event) {
  const Queue& source = QueueOf(event.stream);
  CHECK(event.sequence <= source.recorded && !is_recording_);
  if (event.stream == stream || event.sequence <= source.done || !IsUsable()) return;
  ++counts_.calls;
  NoteLate(cudaStreamWaitEvent(QueueOf(stream).stream, source.EventOf(event.sequence), 0));
}

bool CudaDevice::IsDone(DeviceEvent event) {
  Queue& queue = QueueOf(event.stream);
  CHECK(event.sequence <= queue.recorded && !is_recording_);
  if (event.sequence <= queue.done || !IsUsable()) return true;
  const cudaError_t error = cudaEventQuery(queue.EventOf(event.sequence));
  if (error == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  NoteLate(error);
  queue.done = event.sequence;
  return true;
}

absl::Status CudaDevice::Await(DeviceEvent event) {
  Queue& queue = QueueOf(event.stream);
  CHECK(event.sequence <= queue.recorded && !is_recording_);
  if (event.sequence <= queue.done || !IsUsable()) return status_;
  ++counts_.waits;
  ++counts_.calls;
  NoteLate(cudaEventSynchronize(queue.EventOf(event.sequence)));
  queue.done = event.sequence;
  return status_;
}

// Of this thread alone: what others do on the GPU is no part of it and no mistake.
void CudaDevice::BeginRecording(Stream stream) {
  CHECK(!is_recording_);
  is_recording_ = true;
  recorded_stream_ = stream;
  counts_before_ = counts_;
  recording_status_ = absl::OkStatus();
  if (!IsUsable()) return;
  const cudaError_t error =
      Forgotten(cudaStreamBeginCapture(QueueOf(stream).stream, cudaStreamCaptureModeThreadLocal));
  is_captured_ = error == cudaSuccess;
  if (!is_captured_) recording_status_ = CudaFailure(error, "beginning a recording");
}

absl::StatusOr<std::unique_ptr<DeviceRecording>> CudaDevice::EndRecording() {
  CHECK(is_recording_);
  is_recording_ = false;
  const DeviceCounts counts = counts_.WorkSince(counts_before_);
  counts_ = counts_before_;
  const Work work = {
      .kind = Work::Kind::kRepeat, .name = last_kernel_, .launches = counts.launches};
  const auto graph =
      MakeGraph(fmt::format("recording {} kernels, the last {}", work.launches, work.name));
  if (!graph.ok()) {
    ++counts_.refused_recordings;
    return graph.status();
  }
  auto recording = std::make_unique<CudaRecording>(index_, *graph);
  recording->work = work;
  recording->counts = counts;
  return recording;
}

// A capture that went wrong is ended as well: the stream is of no use before.
absl::StatusOr<cudaGraphExec_t> CudaDevice::MakeGraph(std::string_view what) {
  UseHere();
  cudaGraph_t graph = nullptr;
  cudaError_t error = cudaSuccess;
  if (std::exchange(is_captured_, false)) {
    error = cudaStreamEndCapture(QueueOf(recorded_stream_).stream, &graph);
  }
  const absl::Status& status = status_.ok() ? recording_status_ : status_;
  if (!status.ok()) {
    Forgotten(error);
    if (graph != nullptr) Forgotten(cudaGraphDestroy(graph));
    return status;
  }
  cudaGraphExec_t exec = nullptr;
  if (error == cudaSuccess) error = cudaGraphInstantiateWithFlags(&exec, graph, 0);
  if (graph != nullptr) Forgotten(cudaGraphDestroy(graph));
  if (error == cudaSuccess) return exec;
  if (Forgotten(error) == cudaErrorMemoryAllocation) {
    return absl::ResourceExhaustedError(fmt::format(
        "GPU: {} failed: its memory is full, perhaps by other programs (nvidia-smi shows them). "
        "Ask for less (--vram)",
        what));
  }
  return CudaFailure(error, what);
}

void CudaDevice::Repeat(Stream stream, const DeviceRecording& recording) {
  CHECK(!is_recording_);
  if (!IsUsable()) return;
  const auto& recorded = static_cast<const CudaRecording&>(recording);
  Note(cudaGraphLaunch(recorded.graph(), QueueOf(stream).stream), recorded.work);
  ++counts_.repeats;
  counts_.AddWork(recorded.counts);
}

std::string Version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// The number of GPUs, or why there are none.
absl::StatusOr<int> CountDevices() {
  int count = 0;
  const cudaError_t error = Forgotten(cudaGetDeviceCount(&count));
  if (error == cudaErrorInsufficientDriver) {
    int version = 0;
    Forgotten(cudaDriverGetVersion(&version));
    if (version == 0) {
      return absl::FailedPreconditionError(
          "cannot use a GPU: no NVIDIA driver is loaded, or this container was started without it. "
          "Install the driver (nvidia-smi shows whether it works; containers need --gpus all), or "
          "use --device cpu");
    }
    return absl::FailedPreconditionError(fmt::format(
        "cannot use a GPU: the NVIDIA driver knows CUDA {} and this build needs {}. Update the "
        "driver, build with an older toolkit, or use --device cpu",
        Version(version), Version(CUDART_VERSION)));
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return absl::FailedPreconditionError(
        "cannot use a GPU: the NVIDIA driver shows none to this process; there is none, or "
        "CUDA_VISIBLE_DEVICES hides it. Look at nvidia-smi -L, or use --device cpu");
  }
  if (error != cudaSuccess) return CudaFailure(error, "looking for GPUs");
  return count;
}

struct Free {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
};

// Makes a context on the GPU, which takes a part of its memory and some time.
absl::StatusOr<Free> MemoryOf(int index) {
  Free result;
  cudaError_t error = Forgotten(cudaSetDevice(index));
  if (error == cudaSuccess) {
    error = Forgotten(cudaMemGetInfo(&result.free_bytes, &result.total_bytes));
  }
  if (error != cudaSuccess) return CudaFailure(error, fmt::format("opening GPU {}", index));
  return result;
}

// That kernels need: products of bytes on tensor cores.
constexpr int kCapabilityMin = 8;

absl::Status CheckCapability(int index) {
  int major = kCapabilityMin, minor = 0;  // what cannot be asked will fail by itself
  Forgotten(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
  Forgotten(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
  if (major >= kCapabilityMin) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("GPU {} is of compute capability {}.{}, and the kernels need {}.0 or later: it "
                  "is too old. Choose another with --gpu, or use --device cpu",
                  index, major, minor, kCapabilityMin));
}

// The GPU with the most free memory. Those that cannot be opened are passed over; the error is that
// of the last one when it is so with all. Leaves nothing on the others.
absl::StatusOr<int> ChooseDevice(int count) {
  if (count == 1) return 0;
  int chosen = -1;
  size_t most_bytes = 0;
  absl::Status status;
  for (int index = 0; index < count; ++index) {
    if (const absl::Status capable = CheckCapability(index); !capable.ok()) {
      status = capable;
      continue;
    }
    const auto memory = MemoryOf(index);
    if (memory.ok() && (chosen < 0 || memory->free_bytes > most_bytes)) {
      chosen = index;
      most_bytes = memory->free_bytes;
    }
    if (!memory.ok()) status = memory.status();
    Forgotten(cudaDeviceReset());
  }
  if (chosen < 0) return status;
  return chosen;
}

absl::StatusOr<DeviceInfo> InfoOf(int index, std::string_view choice) {
  if (const absl::Status capable = CheckCapability(index); !capable.ok()) return capable;
  const auto memory = MemoryOf(index);
  if (!memory.ok()) return memory.status();
  cudaDeviceProp properties = {};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index)) {
    return CudaFailure(error, fmt::format("asking GPU {} what it is", index));
  }
  int driver_version = 0;
  Forgotten(cudaDriverGetVersion(&driver_version));
  std::array<char, 32> bus_id = {};
  Forgotten(cudaDeviceGetPCIBusId(bus_id.data(), bus_id.size(), index));
  const PcieLink link = ReadPcieLink(bus_id.data());
  std::string description = fmt::format("{} ({}), {}", properties.name, choice, Describe(link));
  if (link.numa_node >= 0) description += fmt::format(", near NUMA node {}", link.numa_node);
  description += fmt::format(", driver for CUDA {}", Version(driver_version));
  return DeviceInfo{.name = properties.name,
                    .description = std::move(description),
                    .memory_bytes = memory->total_bytes,
                    .available_bytes = memory->free_bytes,
                    .multiprocessor_count = properties.multiProcessorCount,
                    .numa_node = link.numa_node,
                    .link_generation = link.generation,
                    .link_width = link.width};
}

}  // namespace

bool IsCudaBuiltIn() { return true; }

int CountCudaDevices() {
  const auto count = CountDevices();
  int usable = 0;
  for (int index = 0; count.ok() && index < *count; ++index) usable += CheckCapability(index).ok();
  return usable;
}

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions& options) {
  const auto count = CountDevices();
  if (!count.ok()) return count.status();
  if (options.index >= *count) {
    return absl::InvalidArgumentError(
        fmt::format("there is no GPU {}: {} visible to this process, counted from 0; leave the "
                    "choice open for the one with the most free memory",
                    options.index, *count == 1 ? "one is" : fmt::format("{} are", *count)));
  }
  int index = options.index;
  std::string choice = fmt::format("GPU {} of {}", index, *count);
  if (index < 0) {
    const auto chosen = ChooseDevice(*count);
    if (!chosen.ok()) return chosen.status();
    index = *chosen;
    choice = *count == 1 ? "the only GPU"
                         : fmt::format("GPU {} of {}, with the most free memory", index, *count);
  }
  auto info = InfoOf(index, choice);
  if (!info.ok()) return info.status();
  auto device = std::make_unique<CudaDevice>(index, *std::move(info));
  const absl::Status status = device->Open();
  if (!status.ok()) return status;
  return device;
}

}  // namespace stoker
