// What every kind of device promises, asked of each: those in the registry that this machine has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/buffer.h"
#include "device/device.h"
#include "device/device_buffer.h"
#include "tests/device/small_kernels.h"

namespace stoker {

void PrintTo(const DeviceRow& row, std::ostream* stream) { *stream << row.name; }

namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class Counters final : public CounterVisitor {
 public:
  void Counter(std::string_view name, uint64_t value) override {
    values[std::string(name)] = static_cast<double>(value);
  }
  void Gauge(std::string_view name, double value) override { values[std::string(name)] = value; }
  std::map<std::string, double> values;
};

class DeviceContract : public ::testing::TestWithParam<DeviceRow> {
 protected:
  void SetUp() override {
    if (GetParam().name == "cuda" && UsableGpuCount() == 0) {
      GTEST_SKIP() << "there is no GPU here that could be used";
    }
    // A small model, so that no kind of device needs much of the machine.
    auto device = OpenDevice(GetParam().name, {.modelled_memory_bytes = 256 << 20});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    host_ = *HostBuffer::Create(kHostBytes);
    ASSERT_TRUE(device_->Pin(host_.span()).ok());
    buffer_ = *device_->Take(kHostBytes);
  }
  void TearDown() override {
    buffer_ = DeviceBuffer();
    if (device_ != nullptr) device_->Unpin(host_.span());
  }

  // Pinned memory, as bytes that are easily compared.
  uint8_t* Host(size_t at = 0) { return reinterpret_cast<uint8_t*>(host_.data()) + at; }
  std::vector<uint8_t> HostBytes(size_t at, size_t bytes) { return {Host(at), Host(at) + bytes}; }
  absl::Status Finish(Stream stream) { return device_->Await(device_->Record(stream)); }
  std::map<std::string, double> Report() {
    Counters counters;
    device_->Report(counters);
    return counters.values;
  }

  static constexpr size_t kHostBytes = 4 << 20;
  std::unique_ptr<Device> device_;
  HostBuffer host_;
  DeviceBuffer buffer_;
};

TEST_P(DeviceContract, SaysWhatItIs) {
  EXPECT_EQ(device_->kind(), GetParam().name);
  EXPECT_TRUE(GetParam().is_built_in());
  const DeviceInfo& info = device_->info();
  EXPECT_FALSE(info.name.empty());
  EXPECT_THAT(info.description, HasSubstr(info.name));
  EXPECT_GT(info.available_bytes, 0);
  EXPECT_LE(info.available_bytes, info.memory_bytes);
}

TEST_P(DeviceContract, TakenMemoryIsZeroedAndAligned) {
  for (const size_t bytes : {1, 255, 1000, 70'000}) {
    const DeviceBuffer taken = *device_->Take(bytes);
    EXPECT_EQ(taken.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(taken.data()) % 256, 0);
    std::memset(Host(), 7, bytes);
    device_->CopyOut(Stream::kCopyOut, host_.data(), taken.data(), bytes);
    ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
    EXPECT_THAT(HostBytes(0, bytes), Each(0));
    // Memory that has been in use is zeroed as well.
    Enqueue(*device_, Stream::kCompute, Fill{.data = taken.data(), .bytes = bytes, .value = 1});
    ASSERT_TRUE(Finish(Stream::kCompute).ok());
  }
}

TEST_P(DeviceContract, TakingMoreThanThereIsSaysWhatIsLeft) {
  const auto taken = device_->Take(device_->info().memory_bytes + 1);
  EXPECT_TRUE(absl::IsResourceExhausted(taken.status())) << taken.status();
  EXPECT_THAT(std::string(MessageOf(taken.status())), HasSubstr(" left"));
  // The device is still of use.
  EXPECT_TRUE(Finish(Stream::kCompute).ok());
}

TEST_P(DeviceContract, MemoryGivenBackCanBeTakenAgain) {
  const uint64_t bytes = (device_->info().available_bytes - kHostBytes) / 5 * 4;
  for (int i = 0; i < 3; ++i) {
    const auto taken = device_->Take(bytes);
    ASSERT_TRUE(taken.ok()) << taken.status();
    EXPECT_EQ(Report()["device_taken_bytes"], static_cast<double>(bytes + kHostBytes));
  }
  EXPECT_EQ(Report()["device_taken_bytes"], static_cast<double>(kHostBytes));
}

TEST_P(DeviceContract, NothingIsABuffer) {
  const auto taken = device_->Take(0);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken->bytes(), 0);
}

TEST_P(DeviceContract, CopiesArriveInBothDirections) {
  for (const size_t bytes : {size_t{1}, size_t{3}, size_t{4096}, kHostBytes / 2 - 1}) {
    const size_t back = kHostBytes / 2;
    for (size_t i = 0; i < bytes; ++i) Host()[i] = static_cast<uint8_t>(i * 7 + bytes);
    std::memset(Host(back), 0, bytes + 1);
    device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_.data(), bytes);
    ASSERT_TRUE(Finish(Stream::kCopyIn).ok());
    device_->CopyOut(Stream::kCopyOut, host_.data() + back, buffer_.data(), bytes);
    ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
    EXPECT_EQ(HostBytes(back, bytes), HostBytes(0, bytes));
    EXPECT_EQ(Host(back)[bytes], 0);
  }
}

TEST_P(DeviceContract, CopiesWithinTheDeviceArriveAndAreCounted) {
  constexpr size_t kBytes = 70'001;
  const size_t half = kHostBytes / 2;
  for (size_t i = 0; i < kBytes; ++i) Host()[i] = static_cast<uint8_t>(i * 7);
  device_->CopyIn(Stream::kCompute, buffer_.data(), host_.data(), kBytes);
  device_->CopyWithin(Stream::kCompute, buffer_.data() + half, buffer_.data(), kBytes);
  device_->CopyWithin(Stream::kCompute, buffer_.data(), buffer_.data() + half, 0);
  device_->CopyOut(Stream::kCompute, host_.data() + half, buffer_.data() + half, kBytes);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_EQ(HostBytes(half, kBytes), HostBytes(0, kBytes));
  EXPECT_EQ(Report()["device_copies_within"], 1);
  EXPECT_EQ(Report()["device_copied_within_bytes"], kBytes);
}

TEST_P(DeviceContract, CopiesOfNothingAreNone) {
  device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_.data(), 0);
  device_->CopyOut(Stream::kCopyOut, host_.data(), buffer_.data(), 0);
  EXPECT_TRUE(Finish(Stream::kCopyIn).ok());
  EXPECT_EQ(Report()["device_copies_in"], 0);
  EXPECT_EQ(Report()["device_copies_out"], 0);
}

TEST_P(DeviceContract, StreamRunsInOrder) {
  constexpr int kRounds = 200;
  constexpr size_t kBytes = 1000;
  for (int i = 0; i < kRounds; ++i) {
    Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = kBytes, .value = i});
    device_->CopyOut(Stream::kCompute, host_.data() + i * kBytes, buffer_.data(), kBytes);
  }
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_THAT(HostBytes(i * kBytes, kBytes), Each(static_cast<uint8_t>(i)));
  }
}

// In, doubled on the device, out; each stream waits for the one before, and the first for the last,
// because the rounds share their buffers.
TEST_P(DeviceContract, WaitForOrdersStreams) {
  constexpr size_t kBytes = 100'000;
  std::byte* first = buffer_.data();
  std::byte* second = buffer_.data() + kBytes;
  DeviceEvent out;
  for (int i = 0; i < 10; ++i) {
    std::memset(Host(i * kBytes), i + 1, kBytes);
    device_->WaitFor(Stream::kCopyIn, out);
    device_->CopyIn(Stream::kCopyIn, first, host_.data() + i * kBytes, kBytes);
    device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyIn));
    Enqueue(*device_, Stream::kCompute, Duplicate{.to = second, .from = first, .bytes = kBytes});
    device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCompute));
    device_->CopyOut(Stream::kCopyOut, host_.data() + (10 + i) * kBytes, second, kBytes);
    out = device_->Record(Stream::kCopyOut);
  }
  ASSERT_TRUE(device_->Await(out).ok());
  for (int i = 0; i < 10; ++i) {
    ASSERT_THAT(HostBytes((10 + i) * kBytes, kBytes), Each(i + 1));
  }
}

TEST_P(DeviceContract, EveryStreamTakesCopiesKernelsAndRecordings) {
  int value = 0;
  for (const Stream stream :
       {Stream::kCompute, Stream::kBackground, Stream::kCopyIn, Stream::kCopyOut}) {
    ++value;
    Host()[0] = static_cast<uint8_t>(value);
    device_->BeginRecording(stream);
    device_->CopyIn(stream, buffer_.data(), host_.data(), 1);
    Enqueue(*device_, stream,
            Duplicate{.to = buffer_.data() + 1, .from = buffer_.data(), .bytes = 1});
    const auto recording = device_->EndRecording();
    ASSERT_TRUE(recording.ok()) << recording.status();
    device_->Repeat(stream, **recording);
    device_->CopyOut(stream, host_.data() + 1, buffer_.data() + 1, 1);
    ASSERT_TRUE(Finish(stream).ok());
    EXPECT_THAT(HostBytes(1, 1), Each(value));
  }
}

TEST_P(DeviceContract, EventBehindAWaitComesAfterWhatIsWaitedFor) {
  constexpr size_t kBytes = 300'000;
  std::memset(Host(), 5, kBytes);
  device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_.data(), kBytes);
  device_->CopyOut(Stream::kCopyIn, host_.data() + kBytes, buffer_.data(), kBytes);
  const DeviceEvent copied = device_->Record(Stream::kCopyIn);
  device_->WaitFor(Stream::kCompute, copied);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_THAT(HostBytes(kBytes, kBytes), Each(5));
  EXPECT_TRUE(device_->IsDone(copied));
}

TEST_P(DeviceContract, WaitingForItselfOrThePastHoldsNothingUp) {
  EXPECT_TRUE(device_->IsDone({}));
  EXPECT_TRUE(device_->Await({}).ok());
  Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 10, .value = 3});
  const DeviceEvent filled = device_->Record(Stream::kCompute);
  device_->WaitFor(Stream::kCompute, filled);
  device_->WaitFor(Stream::kCompute, {});
  device_->WaitFor(Stream::kCopyOut, {});
  ASSERT_TRUE(device_->Await(filled).ok());
  device_->WaitFor(Stream::kCopyOut, filled);
  device_->CopyOut(Stream::kCopyOut, host_.data(), buffer_.data(), 10);
  ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
  EXPECT_THAT(HostBytes(0, 10), Each(3));
}

TEST_P(DeviceContract, EventsBeyondTheBoundStillComeInOrder) {
  constexpr int kEvents = 2 * Device::kEventsMax + 5;
  std::vector<DeviceEvent> events;
  for (int i = 0; i < kEvents; ++i) {
    device_->CopyIn(Stream::kCopyIn, buffer_.data() + i, host_.data() + i, 1);
    events.push_back(device_->Record(Stream::kCopyIn));
  }
  for (int i = 1; i < kEvents; ++i) {
    ASSERT_GE(events[i].sequence, events[i - 1].sequence);
  }
  ASSERT_TRUE(device_->Await(events[kEvents - 2]).ok());
  for (int i = 0; i < kEvents - 1; ++i) {
    ASSERT_TRUE(device_->IsDone(events[i])) << i;
    ASSERT_TRUE(device_->Await(events[i]).ok());
  }
  // Old ones can be waited for as well.
  device_->WaitFor(Stream::kCompute, events[0]);
  EXPECT_TRUE(device_->Await(events.back()).ok());
}

TEST_P(DeviceContract, PollingSeesTheEnd) {
  std::memset(Host(), 9, 1000);
  device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_.data(), 1000);
  device_->CopyOut(Stream::kCopyIn, host_.data() + 1000, buffer_.data(), 1000);
  const DeviceEvent event = device_->Record(Stream::kCopyIn);
  while (!device_->IsDone(event)) {
  }
  EXPECT_THAT(HostBytes(1000, 1000), Each(9));
}

TEST_P(DeviceContract, ArgumentsAreCopiedWhenQueued) {
  Fill fill = {.data = buffer_.data(), .bytes = 100, .value = 1};
  Enqueue(*device_, Stream::kCompute, fill);
  fill = {.data = nullptr, .bytes = 0, .value = 2};
  device_->CopyOut(Stream::kCompute, host_.data(), buffer_.data(), 100);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_THAT(HostBytes(0, 100), Each(1));
}

TEST_P(DeviceContract, BuffersGoOnlyWhenTheirWorkIsDone) {
  {
    const DeviceBuffer taken = *device_->Take(1000);
    Enqueue(*device_, Stream::kCompute, Fill{.data = taken.data(), .bytes = 1000, .value = 4});
    device_->CopyOut(Stream::kCompute, host_.data(), taken.data(), 1000);
  }
  EXPECT_THAT(HostBytes(0, 1000), Each(4));
}

TEST_P(DeviceContract, UnpinningWaitsForTheCopies) {
  HostBuffer other = *HostBuffer::Create(10'000);
  ASSERT_TRUE(device_->Pin(other.span()).ok());
  Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 10'000, .value = 6});
  device_->CopyOut(Stream::kCompute, other.data(), buffer_.data(), 10'000);
  device_->Unpin(other.span());
  EXPECT_THAT(other.span(), Each(std::byte{6}));
  // And can be pinned again.
  ASSERT_TRUE(device_->Pin(other.span()).ok());
  device_->Unpin(other.span());
}

TEST_P(DeviceContract, CountsWhatItWasAskedFor) {
  std::vector<std::byte> pageable(500);
  device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_.data(), 1000);
  device_->CopyIn(Stream::kCopyIn, buffer_.data(), pageable.data(), 500);
  Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 8, .value = 0});
  device_->CopyOut(Stream::kCopyOut, host_.data(), buffer_.data(), 70);
  for (const Stream stream : {Stream::kCopyIn, Stream::kCompute, Stream::kCopyOut}) {
    ASSERT_TRUE(Finish(stream).ok());
  }
  auto report = Report();
  EXPECT_EQ(report["device_copies_in"], 2);
  EXPECT_EQ(report["device_copied_in_bytes"], 1500);
  EXPECT_EQ(report["device_copies_out"], 1);
  EXPECT_EQ(report["device_copied_out_bytes"], 70);
  EXPECT_EQ(report["device_unpinned_copies"], 1);
  EXPECT_EQ(report["device_launches"], 1);
  EXPECT_EQ(report["device_pinned_bytes"], static_cast<double>(kHostBytes));
  EXPECT_GE(report["device_waits"], 1);
}

// In, doubled on the device, out.
TEST_P(DeviceContract, RecordingRunsWhenRepeatedOnWhatIsInMemoryThen) {
  constexpr size_t kBytes = 100'000;
  std::memset(Host(), 0, 3 * kBytes);
  device_->BeginRecording(Stream::kCompute);
  device_->CopyIn(Stream::kCompute, buffer_.data(), host_.data(), kBytes);
  Enqueue(*device_, Stream::kCompute,
          Duplicate{.to = buffer_.data() + kBytes, .from = buffer_.data(), .bytes = kBytes});
  device_->CopyOut(Stream::kCompute, host_.data() + kBytes, buffer_.data() + kBytes, kBytes);
  const auto recording = device_->EndRecording();
  ASSERT_TRUE(recording.ok()) << recording.status();
  std::memset(Host(), 9, kBytes);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_THAT(HostBytes(kBytes, kBytes), Each(0));
  for (const int value : {1, 2, 3}) {
    std::memset(Host(), value, kBytes);
    device_->Repeat(Stream::kCompute, **recording);
    ASSERT_TRUE(Finish(Stream::kCompute).ok());
    EXPECT_THAT(HostBytes(kBytes, kBytes), Each(value));
  }
}

TEST_P(DeviceContract, RepeatsAreInOrderWithWhatElseIsQueued) {
  device_->BeginRecording(Stream::kCompute);
  Enqueue(*device_, Stream::kCompute,
          Duplicate{.to = buffer_.data() + 100, .from = buffer_.data(), .bytes = 100});
  const auto recording = device_->EndRecording();
  ASSERT_TRUE(recording.ok());
  for (int i = 1; i <= 20; ++i) {
    Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 100, .value = i});
    device_->Repeat(Stream::kCompute, **recording);
    Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 100, .value = 0});
    device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCompute));
    device_->CopyOut(Stream::kCopyOut, host_.data() + i * 100, buffer_.data() + 100, 100);
    device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyOut));
  }
  ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
  for (int i = 1; i <= 20; ++i) EXPECT_THAT(HostBytes(i * 100, 100), Each(i));
}

TEST_P(DeviceContract, ARepeatIsOneCallAndCountsAsAllThatItHolds) {
  device_->BeginRecording(Stream::kCompute);
  for (int i = 0; i < 5; ++i) {
    Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 8, .value = i});
  }
  device_->CopyIn(Stream::kCompute, buffer_.data(), host_.data(), 30);
  device_->CopyOut(Stream::kCompute, host_.data(), buffer_.data(), 70);
  const auto recording = device_->EndRecording();
  ASSERT_TRUE(recording.ok());
  auto report = Report();
  EXPECT_EQ(report["device_launches"], 0);
  EXPECT_EQ(report["device_calls"], 0);
  EXPECT_EQ(report["device_copied_in_bytes"], 0);
  device_->Repeat(Stream::kCompute, **recording);
  device_->Repeat(Stream::kCompute, **recording);
  report = Report();
  EXPECT_EQ(report["device_calls"], 2);
  EXPECT_EQ(report["device_repeats"], 2);
  EXPECT_EQ(report["device_launches"], 10);
  EXPECT_EQ(report["device_copies_in"], 2);
  EXPECT_EQ(report["device_copied_in_bytes"], 60);
  EXPECT_EQ(report["device_copied_out_bytes"], 140);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_EQ(Report()["device_calls"], 4);  // an event, and the wait for it
}

// By the recording, or when it is repeated, as the kind of device can tell.
TEST_P(DeviceContract, AKernelThatCannotRunInARecordingIsNamed) {
  device_->BeginRecording(Stream::kCompute);
  device_->Launch(Stream::kCompute,
                  {.name = "broken_kernel", .run = [](const void*, void*) { return 1; }});
  const auto recording = device_->EndRecording();
  absl::Status status = recording.status();
  if (recording.ok()) {
    device_->Repeat(Stream::kCompute, **recording);
    status = Finish(Stream::kCompute);
  }
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("broken_kernel"));
}

TEST_P(DeviceContract, NothingIsRecordedOfADeviceThatHasFailed) {
  device_->Launch(Stream::kCompute,
                  {.name = "broken_kernel", .run = [](const void*, void*) { return 1; }});
  const absl::Status failed = Finish(Stream::kCompute);
  device_->BeginRecording(Stream::kCompute);
  const absl::Status recorded = device_->EndRecording().status();
  EXPECT_EQ(recorded, failed);
  EXPECT_FALSE(recorded.ok());
}

TEST_P(DeviceContract, FailureIsKeptAndNamesTheOperation) {
  std::memset(Host(), 8, 100);
  device_->Launch(Stream::kCompute,
                  {.name = "broken_kernel", .run = [](const void*, void*) { return 1; }});
  const absl::Status first = Finish(Stream::kCompute);
  EXPECT_THAT(std::string(MessageOf(first)), HasSubstr("broken_kernel"));
  device_->CopyOut(Stream::kCopyOut, host_.data(), buffer_.data(), 100);
  const DeviceEvent copied = device_->Record(Stream::kCopyOut);
  device_->WaitFor(Stream::kCompute, copied);
  EXPECT_TRUE(device_->IsDone(copied));
  EXPECT_EQ(device_->Await(copied), first);
  EXPECT_EQ(device_->Await({}), first);
  EXPECT_THAT(HostBytes(0, 100), Each(8));
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceContract,
                         ::testing::ValuesIn(Devices().begin(), Devices().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Devices, UnknownKindListsTheKnownOnes) {
  const auto device = OpenDevice("abacus", {});
  EXPECT_TRUE(absl::IsInvalidArgument(device.status()));
  EXPECT_EQ(MessageOf(device.status()),
            "there is no kind of device 'abacus'; the kinds are cuda, modelled");
}

TEST(Devices, CudaThatCannotBeUsedSaysWhatIsMissing) {
  if (UsableGpuCount() > 0) GTEST_SKIP() << "there is a GPU here";
  const auto device = OpenDevice("cuda", {});
  EXPECT_TRUE(absl::IsFailedPrecondition(device.status())) << device.status();
  const std::string message(MessageOf(device.status()));
  EXPECT_THAT(message, HasSubstr("NVIDIA"));
  EXPECT_THAT(message, HasSubstr("--device cpu"));
  EXPECT_EQ(message.find("STOKER_CUDA") == std::string::npos, Devices()[0].is_built_in());
}

TEST(DeviceBuffer, MovingHandsTheMemoryOver) {
  const auto device = *OpenDevice("modelled", {});
  DeviceBuffer one = *device->Take(100);
  std::byte* data = one.data();
  DeviceBuffer other = std::move(one);
  EXPECT_EQ(other.data(), data);
  DeviceBuffer third;
  third = std::move(other);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.bytes(), 100);
}

}  // namespace
}  // namespace stoker
