// The runtime's functions that cuda_device.cc calls, over host memory.
#include "tests/device/fake_cuda_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "base/check.h"
#include "tests/cache/allocation_count.h"

struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

struct CUstream_st {
  std::deque<std::function<void()>> work;
  std::unique_ptr<CUgraph_st> captured;  // while the stream is captured
  uint64_t queued = 0;
  uint64_t done = 0;

  void DoOne() {
    const auto next = std::move(work.front());
    work.pop_front();
    next();
    ++done;
  }
  void DoUntil(uint64_t sequence) {
    while (done < sequence) DoOne();
  }
  template <typename Item>
  void Queue(const Item& item) {
    const stoker::AllocationsUncounted uncounted;
    if (captured != nullptr) {
      captured->work.push_back(item);
      return;
    }
    work.push_back(item);
    ++queued;
  }
};

struct CUevent_st {
  CUstream_st* stream = nullptr;
  uint64_t sequence = 0;
};

namespace stoker {

FakeCuda& TheFakeCuda() {
  static FakeCuda fake;
  return fake;
}

}  // namespace stoker

namespace {

stoker::FakeCuda& Fake() { return stoker::TheFakeCuda(); }

std::vector<CUstream_st*>& Streams() {
  static std::vector<CUstream_st*> streams;
  return streams;
}

std::map<void*, size_t>& Allocations() {
  static std::map<void*, size_t> allocations;
  return allocations;
}

stoker::FakeGpu& Gpu() { return Fake().gpus[static_cast<size_t>(Fake().current)]; }

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(Fake().gpus.size());
  if (Fake().driver_version < CUDART_VERSION) return cudaErrorInsufficientDriver;
  return *count == 0 ? cudaErrorNoDevice : Fake().lost;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = Fake().driver_version;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  Fake().current = index;
  return Fake().lost != cudaSuccess ? Fake().lost : Gpu().opening;
}
cudaError_t cudaDeviceReset() {
  Fake().resets.push_back(Fake().current);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* total) {
  *left = Gpu().memory_bytes - Gpu().used_bytes - Fake().taken_bytes;
  *total = Gpu().memory_bytes;
  return Fake().lost;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  std::snprintf(properties->name, sizeof(properties->name), "%s",
                Fake().gpus[static_cast<size_t>(index)].name.c_str());
  properties->multiProcessorCount = 80;
  return Fake().lost;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  const bool is_major = attribute == cudaDevAttrComputeCapabilityMajor;
  *value = is_major ? Fake().gpus[static_cast<size_t>(index)].capability : 6;
  return Fake().lost;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int) {
  std::snprintf(text, static_cast<size_t>(bytes), "ffff:ff:1f.7");  // there is no such device
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return Fake().lost;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  CHECK(flags == cudaStreamNonBlocking);
  *stream = new CUstream_st();
  Fake().priorities.push_back(priority);
  Streams().push_back(*stream);
  ++Fake().live_streams;
  return Fake().lost;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::erase(Streams(), stream);
  delete stream;
  --Fake().live_streams;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  CHECK(mode == cudaStreamCaptureModeThreadLocal && stream->captured == nullptr);
  if (Fake().lost == cudaSuccess) stream->captured = std::make_unique<CUgraph_st>();
  return Fake().lost;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->captured);
  if (Fake().lost != cudaSuccess) return Fake().lost;
  CHECK(captured != nullptr);
  if (Fake().capturing != cudaSuccess) return Fake().capturing;
  *graph = new CUgraph_st(*captured);
  ++Fake().live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long) {
  if (Fake().lost != cudaSuccess) return Fake().lost;
  if (Fake().instantiating != cudaSuccess) return Fake().instantiating;
  *exec = new CUgraphExec_st{graph->work};
  ++Fake().live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  for (const auto& item : exec->work) stream->Queue(item);
  return Fake().lost;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  --Fake().live_graphs;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  --Fake().live_graphs;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream->Queue([other = event->stream, sequence = event->sequence] { other->DoUntil(sequence); });
  return Fake().lost;
}
cudaError_t cudaDeviceSynchronize() {
  for (CUstream_st* stream : Streams()) stream->DoUntil(stream->queued);
  return Fake().lost;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  CHECK(flags == cudaEventDisableTiming);
  *event = new CUevent_st();
  ++Fake().live_events;
  return Fake().lost;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --Fake().live_events;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {.stream = stream, .sequence = stream->queued};
  return Fake().lost;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (Fake().lost != cudaSuccess) return Fake().lost;
  if (event->stream->done >= event->sequence) return cudaSuccess;
  event->stream->DoOne();
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ++Fake().event_synchronisations;
  if (Fake().lost == cudaSuccess) event->stream->DoUntil(event->sequence);
  return Fake().lost;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (Fake().lost != cudaSuccess) return Fake().lost;
  if (bytes > Gpu().memory_bytes - Gpu().used_bytes - Fake().taken_bytes) {
    return cudaErrorMemoryAllocation;
  }
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*data, 0xA5, bytes);
  Allocations()[*data] = bytes;
  Fake().taken_bytes += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  Fake().taken_bytes -= Allocations().at(data);
  Allocations().erase(data);
  std::free(data);
  return Fake().lost;
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  std::memset(data, value, bytes);
  return Fake().lost;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  stream->Queue([=] { std::memset(data, value, bytes); });
  return Fake().lost;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  stream->Queue([=] { std::memcpy(to, from, bytes); });
  return Fake().lost;
}
cudaError_t cudaHostRegister(void*, size_t, unsigned) { return Fake().registering; }
cudaError_t cudaHostUnregister(void*) { return cudaSuccess; }

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorOfTheFake";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "text of the fake";
}

}  // extern "C"
