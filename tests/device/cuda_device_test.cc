// The CUDA device over a fake runtime: which GPU is chosen, what errors say, that nothing leaks.
#include "device/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "base/status.h"
#include "device/buffer.h"
#include "device/cuda_errors.h"
#include "tests/cache/allocation_count.h"
#include "tests/device/fake_cuda_runtime.h"
#include "tests/device/small_kernels.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CudaDeviceTest : public ::testing::Test {
 protected:
  CudaDeviceTest() { Fake() = FakeCuda(); }
  ~CudaDeviceTest() override { Fake() = FakeCuda(); }
  static FakeCuda& Fake() { return TheFakeCuda(); }
  static std::string ErrorOf(const absl::Status& status) { return std::string(MessageOf(status)); }
  static absl::Status OpenStatus(const DeviceOptions& options = {}) {
    return OpenCudaDevice(options).status();
  }
};

TEST_F(CudaDeviceTest, MissingDriverIsSaid) {
  Fake().driver_version = 0;
  EXPECT_EQ(UsableGpuCount(), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenStatus()));
  EXPECT_THAT(ErrorOf(OpenStatus()), AllOf(HasSubstr("no NVIDIA driver is loaded"),
                                           HasSubstr("--gpus all"), HasSubstr("--device cpu")));
}

TEST_F(CudaDeviceTest, OldDriverIsSaid) {
  Fake().driver_version = 11040;
  EXPECT_EQ(UsableGpuCount(), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenStatus()));
  EXPECT_THAT(ErrorOf(OpenStatus()), HasSubstr("driver knows CUDA 11.4 and this build needs"));
}

TEST_F(CudaDeviceTest, DriverThatShowsNoGpuIsSaid) {
  Fake().gpus.clear();
  EXPECT_EQ(UsableGpuCount(), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenStatus()));
  EXPECT_THAT(ErrorOf(OpenStatus()), HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST_F(CudaDeviceTest, OnlyGpuIsOpenedWithoutAsking) {
  const auto device = *OpenCudaDevice({});
  EXPECT_THAT(Fake().resets, ElementsAre());
  const DeviceInfo& info = device->info();
  EXPECT_EQ(info.name, "Fake GPU");
  EXPECT_THAT(info.description, AllOf(HasSubstr("Fake GPU (the only GPU)"),
                                      HasSubstr("PCIe link not known"), HasSubstr("for CUDA ")));
  EXPECT_EQ(info.memory_bytes, 256 << 20);
  EXPECT_EQ(info.multiprocessor_count, 80);
}

TEST_F(CudaDeviceTest, GpuWithTheMostFreeMemoryIsChosenAndTheOthersAreLeft) {
  Fake().gpus = {{.name = "A", .used_bytes = 100 << 20},
                 {.name = "B", .used_bytes = 10 << 20},
                 {.name = "C", .used_bytes = 0, .opening = cudaErrorDevicesUnavailable}};
  EXPECT_EQ(UsableGpuCount(), 3);
  const auto device = *OpenCudaDevice({});
  EXPECT_THAT(device->info().description, HasSubstr("B (GPU 1 of 3, with the most free memory)"));
  EXPECT_EQ(Fake().current, 1);
  EXPECT_THAT(Fake().resets, ElementsAre(0, 1, 2));
}

TEST_F(CudaDeviceTest, GpuThatIsTooOldIsPassedOverAndSaid) {
  Fake().gpus = {{.name = "Old", .capability = 7}, {.name = "New", .used_bytes = 100 << 20}};
  EXPECT_EQ(UsableGpuCount(), 1);
  EXPECT_EQ((*OpenCudaDevice({}))->info().name, "New");
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenStatus({.index = 0})));
  EXPECT_THAT(ErrorOf(OpenStatus({.index = 0})), HasSubstr("compute capability 7.6"));
  Fake().gpus.pop_back();
  EXPECT_EQ(UsableGpuCount(), 0);
  EXPECT_THAT(ErrorOf(OpenStatus()), HasSubstr("too old"));
}

TEST_F(CudaDeviceTest, GpuThatWasAskedForIsTaken) {
  Fake().gpus = {{.name = "A"}, {.name = "B", .used_bytes = 10 << 20}};
  EXPECT_EQ((*OpenCudaDevice({.index = 1}))->info().name, "B");
  EXPECT_THAT(Fake().resets, ElementsAre());
  EXPECT_TRUE(absl::IsInvalidArgument(OpenStatus({.index = 2})));
  EXPECT_THAT(ErrorOf(OpenStatus({.index = 2})), HasSubstr("there is no GPU 2: 2 are visible"));
}

TEST_F(CudaDeviceTest, GpusThatAnotherProcessHoldsAreSaid) {
  const FakeGpu held = {.opening = cudaErrorDevicesUnavailable};
  for (Fake().gpus = {held}; Fake().gpus.size() < 3; Fake().gpus.push_back(held)) {
    EXPECT_TRUE(absl::IsUnavailable(OpenStatus())) << OpenStatus();
    EXPECT_THAT(ErrorOf(OpenStatus()), HasSubstr("opening GPU"));
  }
}

TEST_F(CudaDeviceTest, NothingIsLeftBehind) {
  {
    const auto device = *OpenCudaDevice({});
    EXPECT_EQ(Fake().live_streams, kStreamCount);
    EXPECT_EQ(Fake().live_events, kStreamCount * Device::kEventsMax);
    const DeviceBuffer buffer = *device->Take(1000);
    EXPECT_EQ(Fake().taken_bytes, 1000);
  }
  EXPECT_EQ(Fake().live_streams, 0);
  EXPECT_EQ(Fake().live_events, 0);
  EXPECT_EQ(Fake().taken_bytes, 0);
}

TEST_F(CudaDeviceTest, BackgroundGivesWayToAllOtherStreams) {
  Fake().priorities.clear();
  const auto device = *OpenCudaDevice({});
  // In the order of Stream; the lowest number goes first.
  EXPECT_THAT(Fake().priorities, ElementsAre(-5, 0, -5, -5));
}

std::unique_ptr<DeviceRecording> RecordFills(Device& device, const DeviceBuffer& buffer) {
  device.BeginRecording(Stream::kCompute);
  for (int i = 0; i < 3; ++i) {
    Enqueue(device, Stream::kCompute, Fill{.data = buffer.data(), .bytes = 1, .value = 1});
  }
  return *device.EndRecording();
}

TEST_F(CudaDeviceTest, RecordingsLeaveNothingBehind) {
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(100);
  {
    const auto first = RecordFills(*device, buffer);
    const auto second = RecordFills(*device, buffer);
    EXPECT_EQ(Fake().live_graphs, 2);
  }
  EXPECT_EQ(Fake().live_graphs, 0);
}

TEST_F(CudaDeviceTest, RecordingsThatCannotBeMadeAreNamedAndLeaveTheDeviceUsable) {
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(100);
  const auto refused = [&] {
    device->BeginRecording(Stream::kCompute);
    Enqueue(*device, Stream::kCompute, Fill{.data = buffer.data(), .bytes = 1, .value = 1});
    return device->EndRecording().status();
  };
  Fake().instantiating = cudaErrorMemoryAllocation;
  absl::Status status = refused();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(ErrorOf(status), AllOf(HasSubstr("recording 1 kernels, the last fill"),
                                     HasSubstr("memory is full"), HasSubstr("--vram")));
  Fake().instantiating = cudaErrorNotSupported;
  EXPECT_THAT(ErrorOf(refused()), HasSubstr("recording 1 kernels, the last fill failed"));
  Fake().instantiating = cudaSuccess;
  Fake().capturing = cudaErrorStreamCaptureInvalidated;
  EXPECT_THAT(ErrorOf(refused()), HasSubstr("recording 1 kernels, the last fill failed"));
  Fake().capturing = cudaSuccess;
  EXPECT_EQ(Fake().live_graphs, 0);
  const auto recording = RecordFills(*device, buffer);
  device->Repeat(Stream::kCompute, *recording);
  EXPECT_TRUE(device->Await(device->Record(Stream::kCompute)).ok());
}

TEST_F(CudaDeviceTest, GpuLostWhileRecordingIsSaid) {
  const auto device = *OpenCudaDevice({});
  const auto failure = [&] {
    device->BeginRecording(Stream::kCompute);
    Fake().lost = cudaErrorECCUncorrectable;
    const absl::Status status = device->EndRecording().status();
    EXPECT_FALSE(status.ok());
    return status;
  };
  EXPECT_THAT(ErrorOf(failure()), HasSubstr("recording 0 kernels"));
  device->BeginRecording(Stream::kCompute);  // the GPU is lost already
  EXPECT_THAT(ErrorOf(device->EndRecording().status()),
              AllOf(HasSubstr("beginning a recording"), HasSubstr("Xid")));
  EXPECT_FALSE(device->Await(device->Record(Stream::kCompute)).ok());
}

TEST_F(CudaDeviceTest, WhatCannotBeRecordedIsNamedAndNotRun) {
  const auto device = *OpenCudaDevice({});
  static int runs = 0;
  runs = 0;
  const auto launch = [&] {
    device->Launch(Stream::kCompute, {.name = "unrecordable", .run = [](const void*, void*) {
                                        ++runs;
                                        return static_cast<int>(cudaErrorStreamCaptureUnsupported);
                                      }});
  };
  device->BeginRecording(Stream::kCompute);
  launch();
  launch();
  EXPECT_THAT(ErrorOf(device->EndRecording().status()), HasSubstr("kernel unrecordable failed"));
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(Fake().live_graphs, 0);
  EXPECT_TRUE(device->Await(device->Record(Stream::kCompute)).ok());
}

TEST_F(CudaDeviceTest, GpuLostInARepeatIsSaidWithWhatWasRepeated) {
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(100);
  const auto recording = RecordFills(*device, buffer);
  device->Repeat(Stream::kCompute, *recording);
  const DeviceEvent event = device->Record(Stream::kCompute);
  Fake().lost = cudaErrorIllegalAddress;
  EXPECT_THAT(ErrorOf(device->Await(event)),
              HasSubstr("repeat of 3 recorded kernels, the last fill"));
}

TEST_F(CudaDeviceTest, FullMemoryIsResourceExhausted) {
  Fake().gpus[0].used_bytes = 200 << 20;
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(16 << 20);
  const auto refused = device->Take(100 << 20);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_THAT(ErrorOf(refused.status()),
              AllOf(HasSubstr("cannot take 100.00 MiB"), HasSubstr("40.00 MiB of its 256.00 MiB"),
                    HasSubstr("this run holds 16.00 MiB"), HasSubstr("--vram")));
}

// In a child, because a lowered limit may not be raised again.
void PinUnderALimit() {
  TheFakeCuda().registering = cudaErrorMemoryAllocation;
  const rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) std::_Exit(2);
  HostBuffer host = *HostBuffer::Create(1 << 20);
  const absl::Status status = (*OpenCudaDevice({}))->Pin(host.span());
  std::fprintf(stderr, "%s\n", std::string(MessageOf(status)).c_str());
  std::_Exit(absl::IsResourceExhausted(status) ? 0 : 1);
}

TEST_F(CudaDeviceTest, RefusedPinNamesTheLimit) {
  EXPECT_EXIT(PinUnderALimit(), ::testing::ExitedWithCode(0),
              "cannot pin 1.00 MiB of memory for the GPU: out of memory; locked memory is limited "
              "to 64.00 KiB .ulimit -l.");
}

TEST_F(CudaDeviceTest, RefusedPinLeavesTheDeviceUsable) {
  const auto device = *OpenCudaDevice({});
  HostBuffer host = *HostBuffer::Create(4096);
  Fake().registering = cudaErrorMemoryAllocation;
  EXPECT_TRUE(absl::IsResourceExhausted(device->Pin(host.span())));
  Fake().registering = cudaSuccess;
  EXPECT_TRUE(device->Pin(host.span()).ok());
  device->Unpin(host.span());
  EXPECT_TRUE(device->Await(device->Record(Stream::kCompute)).ok());
}

TEST_F(CudaDeviceTest, LostGpuIsSaidWithWhatWasQueuedLast) {
  const auto device = *OpenCudaDevice({});
  const std::vector<std::byte> host(77);
  {
    const DeviceBuffer buffer = *device->Take(100);
    for (int i = 0; i < 20; ++i) {
      Enqueue(*device, Stream::kCompute, Fill{.data = buffer.data(), .bytes = 1, .value = 1});
    }
    device->CopyIn(Stream::kCopyIn, buffer.data(), host.data(), host.size());
    const DeviceEvent event = device->Record(Stream::kCompute);
    Fake().lost = cudaErrorECCUncorrectable;
    const absl::Status status = device->Await(event);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(ErrorOf(status), AllOf(HasSubstr("work queued before"), HasSubstr("kernel fill"),
                                       HasSubstr("copy in of 77 bytes"), HasSubstr("Xid")));
    EXPECT_EQ(device->Await({}), status);
    EXPECT_TRUE(device->IsDone(event));
    EXPECT_EQ(device->Take(1).status(), status);
  }
}

TEST_F(CudaDeviceTest, PollingSeesALostGpu) {
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(100);
  Enqueue(*device, Stream::kCompute, Fill{.data = buffer.data(), .bytes = 1, .value = 1});
  const DeviceEvent event = device->Record(Stream::kCompute);
  Fake().lost = cudaErrorLaunchFailure;
  EXPECT_TRUE(device->IsDone(event));
  EXPECT_THAT(ErrorOf(device->Await(event)), HasSubstr("CUDA_LAUNCH_BLOCKING=1"));
}

TEST_F(CudaDeviceTest, EventKnownToHaveComeIsNotAskedFor) {
  const auto device = *OpenCudaDevice({});
  const DeviceEvent first = device->Record(Stream::kCompute);
  const DeviceEvent second = device->Record(Stream::kCompute);
  ASSERT_TRUE(device->Await(second).ok());
  ASSERT_TRUE(device->Await(first).ok());
  ASSERT_TRUE(device->Await(second).ok());
  EXPECT_EQ(Fake().event_synchronisations, 1);
}

TEST_F(CudaDeviceTest, WorkAllocatesNothing) {
  const auto device = *OpenCudaDevice({});
  const DeviceBuffer buffer = *device->Take(100);
  std::byte host[100] = {};
  const auto recording = RecordFills(*device, buffer);
  const AllocationCount allocations;
  for (int i = 0; i < 3000; ++i) {
    device->CopyIn(Stream::kCopyIn, buffer.data(), host, 100);
    device->WaitFor(Stream::kCompute, device->Record(Stream::kCopyIn));
    Enqueue(*device, Stream::kCompute, Fill{.data = buffer.data(), .bytes = 1, .value = 1});
    device->WaitFor(Stream::kCopyOut, device->Record(Stream::kCompute));
    device->CopyOut(Stream::kCopyOut, host, buffer.data(), 100);
    const DeviceEvent event = device->Record(Stream::kCopyOut);
    if (i % 7 == 0) device->IsDone(event);
    if (i % 3 == 0) device->Repeat(Stream::kCompute, *recording);
    if (i % 500 == 0) {
      ASSERT_TRUE(device->Await(event).ok());
    }
  }
  ASSERT_TRUE(device->Await(device->Record(Stream::kCopyOut)).ok());
  EXPECT_EQ(allocations.Count(), 0);
}

TEST_F(CudaDeviceTest, AnotherThreadUsesTheSameGpu) {
  Fake().gpus = {{.name = "A"}, {.name = "B"}};
  const auto device = *OpenCudaDevice({.index = 1});
  std::thread([&] {
    Fake().current = 0;  // as a new thread has it
    EXPECT_TRUE(device->Await(device->Record(Stream::kCompute)).ok());
    EXPECT_EQ(Fake().current, 1);
  }).join();
}

TEST(CudaFailure, SaysWhatCanBeDone) {
  const auto text = [](int error) {
    return std::string(MessageOf(CudaFailure(error, "kernel norm_rows")));
  };
  EXPECT_EQ(
      text(cudaErrorInvalidValue),
      "GPU: kernel norm_rows failed with cudaErrorOfTheFake (text of the fake); likely a "
      "mistake in this program or a driver that does not fit it. Start again, or use --device "
      "cpu");
  EXPECT_TRUE(absl::IsFailedPrecondition(CudaFailure(cudaErrorNoKernelImageForDevice, "x")));
  EXPECT_THAT(text(cudaErrorNoKernelImageForDevice), HasSubstr("STOKER_CUDA_ARCHITECTURES"));
  for (const int error : {cudaErrorDevicesUnavailable, cudaErrorECCUncorrectable,
                          cudaErrorNvlinkUncorrectable, cudaErrorUnknown}) {
    EXPECT_TRUE(absl::IsUnavailable(CudaFailure(error, "x")));
  }
  for (const int error : {cudaErrorIllegalAddress, cudaErrorLaunchFailure}) {
    EXPECT_TRUE(absl::IsInternal(CudaFailure(error, "x")));
    EXPECT_THAT(text(error), HasSubstr("the GPU is lost to this process"));
  }
}

}  // namespace
}  // namespace stoker
