// The modelled GPU's times, and that mistakes in the order of work show.
#include "device/modelled_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/cache/allocation_count.h"
#include "tests/device/small_kernels.h"

namespace stoker {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A byte takes 1 ns to the device, 2 ns back and half of one in a kernel.
constexpr DeviceOptions kOptions = {.rates = {.memory_bytes_per_second = 2e9,
                                              .copy_in_bytes_per_second = 1e9,
                                              .copy_out_bytes_per_second = 0.5e9,
                                              .launch_ns = 30,
                                              .repeat_ns = 10,
                                              .copy_in_ns = 100,
                                              .copy_out_ns = 100},
                                    .modelled_memory_bytes = 1 << 20};

struct Note {
  static constexpr std::string_view kName = "note";
  std::vector<int>* notes = nullptr;
  int value = 0;

  int Run(void*) const {
    notes->push_back(value);
    return 0;
  }
};

class ModelledDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::memset(host_, 1, sizeof(host_));
    device_ = *MakeModelledDevice(kOptions, &clock_);
    buffer_ = *device_->Take(10'000);
  }
  int64_t EndNs(Stream stream) { return device_->EndNs(device_->Record(stream)); }
  void CopyIn(size_t bytes) { device_->CopyIn(Stream::kCopyIn, buffer_.data(), host_, bytes); }
  void CopyOut(size_t bytes) { device_->CopyOut(Stream::kCopyOut, host_, buffer_.data(), bytes); }
  void Compute(uint64_t touched_bytes, int value = 0) {
    Enqueue(*device_, Stream::kCompute, Note{.notes = &notes_, .value = value}, touched_bytes);
  }
  void FillDevice(int value, size_t bytes, uint64_t touched_bytes = 0) {
    Enqueue(*device_, Stream::kCompute,
            Fill{.data = buffer_.data(), .bytes = bytes, .value = value}, touched_bytes);
  }
  absl::Status Finish(Stream stream) { return device_->Await(device_->Record(stream)); }

  VirtualClock clock_;
  std::unique_ptr<ModelledDevice> device_;
  std::byte host_[10'000];
  std::vector<int> notes_;
  DeviceBuffer buffer_;
};

TEST_F(ModelledDeviceTest, TimesAddUpOnAStream) {
  CopyIn(1000);
  EXPECT_EQ(EndNs(Stream::kCopyIn), 1100);
  CopyIn(50);
  EXPECT_EQ(EndNs(Stream::kCopyIn), 1250);
  CopyOut(1000);
  EXPECT_EQ(EndNs(Stream::kCopyOut), 2100);
  Compute(1000);
  EXPECT_EQ(EndNs(Stream::kCompute), 530);
  Compute(3);  // a part of a nanosecond is a nanosecond
  EXPECT_EQ(EndNs(Stream::kCompute), 562);
}

TEST_F(ModelledDeviceTest, EachDirectionHasItsLatency) {
  DeviceOptions options = kOptions;
  options.rates.copy_out_ns = 700;
  const auto device = *MakeModelledDevice(options, &clock_);
  const DeviceBuffer buffer = *device->Take(1000);
  device->CopyIn(Stream::kCopyIn, buffer.data(), host_, 1000);
  device->CopyOut(Stream::kCopyOut, host_, buffer.data(), 1000);
  EXPECT_EQ(device->EndNs(device->Record(Stream::kCopyIn)), 1100);
  EXPECT_EQ(device->EndNs(device->Record(Stream::kCopyOut)), 2700);
}

TEST_F(ModelledDeviceTest, StreamsRunSideBySide) {
  CopyIn(1000);
  CopyOut(500);
  Compute(2140);
  ASSERT_TRUE(Finish(Stream::kCopyIn).ok());
  EXPECT_EQ(clock_.NowNs(), 1100);
  EXPECT_TRUE(device_->IsDone(device_->Record(Stream::kCopyOut)));
  EXPECT_TRUE(device_->IsDone(device_->Record(Stream::kCompute)));
}

TEST_F(ModelledDeviceTest, WaitForStartsAfterTheEvent) {
  CopyIn(1000);
  device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyIn));
  Compute(1000);
  EXPECT_EQ(EndNs(Stream::kCompute), 1100 + 530);
  // An event that comes before the stream gets there costs nothing.
  device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyIn));
  Compute(1000);
  EXPECT_EQ(EndNs(Stream::kCompute), 1100 + 2 * 530);
}

TEST_F(ModelledDeviceTest, WorkStartsWhenItIsQueuedOnAnIdleStream) {
  CopyIn(1000);
  clock_.AdvanceNs(5000);
  CopyIn(1000);
  EXPECT_EQ(EndNs(Stream::kCopyIn), 6100);
}

TEST_F(ModelledDeviceTest, AwaitMovesTheClockNoFurtherThanTheEvent) {
  CopyIn(1000);
  const DeviceEvent first = device_->Record(Stream::kCopyIn);
  CopyIn(1000);
  ASSERT_TRUE(device_->Await(first).ok());
  EXPECT_EQ(clock_.NowNs(), 1100);
  ASSERT_TRUE(device_->Await(first).ok());
  EXPECT_EQ(clock_.NowNs(), 1100);
}

TEST_F(ModelledDeviceTest, NothingIsDoneBeforeItsEnd) {
  FillDevice(7, 100, 1000);
  device_->CopyOut(Stream::kCompute, host_, buffer_.data(), 100);
  const DeviceEvent event = device_->Record(Stream::kCompute);
  const int64_t end_ns = device_->EndNs(event);
  EXPECT_EQ(end_ns, 530 + 300);
  clock_.SleepUntilNs(end_ns - 1);
  EXPECT_FALSE(device_->IsDone(event));
  EXPECT_THAT(std::vector<std::byte>(host_, host_ + 100), Each(std::byte{1}));
  clock_.AdvanceNs(1);
  EXPECT_TRUE(device_->IsDone(event));
  EXPECT_THAT(std::vector<std::byte>(host_, host_ + 100), Each(std::byte{7}));
}

TEST_F(ModelledDeviceTest, WorkIsDoneInOrderOfItsEndsOverTheStreams) {
  const auto note = [&](Stream stream, int value, uint64_t touched_bytes) {
    Enqueue(*device_, stream, Note{.notes = &notes_, .value = value}, touched_bytes);
  };
  note(Stream::kCompute, 3, 6000);  // ends at 3030
  note(Stream::kCopyOut, 1, 2000);  // 1030
  note(Stream::kCopyIn, 0, 200);    // 130
  note(Stream::kCopyIn, 2, 2000);   // 1160
  note(Stream::kCopyOut, 4, 5940);  // 4030
  note(Stream::kCompute, 5, 1940);  // 4030 too, but queued later
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_THAT(notes_, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(ModelledDeviceTest, SourceOverwrittenTooEarlyShows) {
  CopyIn(100);
  std::memset(host_, 9, 100);
  ASSERT_TRUE(Finish(Stream::kCopyIn).ok());
  CopyOut(100);
  std::memset(host_, 0, 100);
  ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
  EXPECT_THAT(std::vector<std::byte>(host_, host_ + 100), Each(std::byte{9}));
}

TEST_F(ModelledDeviceTest, ForgottenWaitShows) {
  for (const bool is_forgotten : {false, true}) {
    FillDevice(0, 100);
    ASSERT_TRUE(Finish(Stream::kCompute).ok());
    FillDevice(5, 100, 10'000);
    if (!is_forgotten) device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCompute));
    CopyOut(100);
    ASSERT_TRUE(Finish(Stream::kCopyOut).ok());
    EXPECT_EQ(host_[0], is_forgotten ? std::byte{0} : std::byte{5});
  }
}

TEST_F(ModelledDeviceTest, FullStreamWaitsForItsOldest) {
  for (int i = 0; i < ModelledDevice::kOperationsMax; ++i) Compute(0, i);
  EXPECT_EQ(clock_.NowNs(), 0);
  EXPECT_TRUE(notes_.empty());
  for (int i = 0; i < 10; ++i) Compute(0);
  EXPECT_EQ(clock_.NowNs(), 10 * 30);
  EXPECT_EQ(notes_.size(), 10);
}

TEST_F(ModelledDeviceTest, KernelsOfARepeatFollowEachOtherSooner) {
  device_->BeginRecording(Stream::kCompute);
  Compute(1000, 1);
  Compute(0, 2);
  device_->CopyOut(Stream::kCompute, host_, buffer_.data(), 50);
  Compute(0, 3);
  const auto recording = *device_->EndRecording();
  EXPECT_EQ(EndNs(Stream::kCompute), 0);
  device_->Repeat(Stream::kCompute, *recording);
  EXPECT_EQ(EndNs(Stream::kCompute), (30 + 500) + 10 + (100 + 100) + 10);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_THAT(notes_, ElementsAre(1, 2, 3));
}

TEST_F(ModelledDeviceTest, RepeatLongerThanAStreamIsPerformedAsItGoes) {
  constexpr int kCount = ModelledDevice::kOperationsMax + 10;
  device_->BeginRecording(Stream::kCompute);
  for (int i = 0; i < kCount; ++i) Compute(0, i);
  const auto recording = *device_->EndRecording();
  device_->Repeat(Stream::kCompute, *recording);
  ASSERT_TRUE(Finish(Stream::kCompute).ok());
  EXPECT_EQ(notes_.size(), kCount);
}

TEST_F(ModelledDeviceTest, RecordingsAreRefusedWhenToldSo) {
  device_->RefuseRecordings(1);
  device_->BeginRecording(Stream::kCompute);
  Compute(0);
  const absl::Status status = device_->EndRecording().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("a recording of 1 operations"));
  device_->BeginRecording(Stream::kCompute);
  EXPECT_TRUE(device_->EndRecording().ok());
}

TEST_F(ModelledDeviceTest, AKernelOfARepeatThatFailsIsNamed) {
  device_->BeginRecording(Stream::kCompute);
  Compute(0, 1);
  Compute(0, 2);
  const auto recording = *device_->EndRecording();
  device_->FailOperation(2);
  device_->Repeat(Stream::kCompute, *recording);
  EXPECT_THAT(std::string(MessageOf(Finish(Stream::kCompute))), HasSubstr("kernel note failed"));
  EXPECT_THAT(notes_, ElementsAre(1));
}

TEST_F(ModelledDeviceTest, WorkAllocatesNothing) {
  std::byte* host = host_;
  device_->BeginRecording(Stream::kCompute);
  FillDevice(3, 10);
  const auto recording = *device_->EndRecording();
  const AllocationCount allocations;
  for (int i = 0; i < 3000; ++i) {
    device_->CopyIn(Stream::kCopyIn, buffer_.data(), host, 100);
    device_->WaitFor(Stream::kCompute, device_->Record(Stream::kCopyIn));
    Enqueue(*device_, Stream::kCompute, Fill{.data = buffer_.data(), .bytes = 1, .value = 1});
    device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCompute));
    device_->CopyOut(Stream::kCopyOut, host, buffer_.data(), 100);
    const DeviceEvent event = device_->Record(Stream::kCopyOut);
    if (i % 7 == 0) device_->IsDone(event);
    if (i % 3 == 0) device_->Repeat(Stream::kCompute, *recording);
    if (i % 500 == 0) {
      ASSERT_TRUE(device_->Await(event).ok());
    }
  }
  ASSERT_TRUE(device_->Await(device_->Record(Stream::kCopyOut)).ok());
  EXPECT_EQ(allocations.Count(), 0);
}

TEST_F(ModelledDeviceTest, FailedCopyIsNamedAndNothingAfterItIsDone) {
  Compute(0, 1);
  device_->FailOperation(2);
  Compute(0, 2);
  CopyIn(1000);      // fails at 1100
  Compute(4000, 3);  // ends later
  device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCompute));
  const absl::Status status = Finish(Stream::kCopyOut);
  EXPECT_EQ(status,
            absl::InternalError("modelled GPU: copy in of 1000 bytes failed, as it was told to"));
  EXPECT_EQ(device_->Await({}), status);
  EXPECT_THAT(notes_, ElementsAre(1, 2));
}

TEST_F(ModelledDeviceTest, FailedKernelSaysWhatToTry) {
  device_->Launch(Stream::kCompute,
                  {.name = "broken", .run = [](const void*, void*) { return 3; }});
  EXPECT_EQ(
      MessageOf(Finish(Stream::kCompute)),
      "modelled GPU: kernel broken failed with error 3; its arguments are likely ones that it "
      "cannot work on. Run with --device cpu instead");
}

TEST_F(ModelledDeviceTest, TakesWhatThereIsToTheByte) {
  const uint64_t left = kOptions.modelled_memory_bytes - 10'000;
  const auto refused = device_->Take(left + 1);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_EQ(MessageOf(refused.status()),
            "cannot take 1014.24 KiB of the modelled GPU's memory: 1014.23 KiB of its 1.00 MiB are "
            "left; ask for less, or model a GPU with more");
  EXPECT_TRUE(device_->Take(left).ok());
}

TEST_F(ModelledDeviceTest, PinsAreRefusedWhenToldSo) {
  HostBuffer host = *HostBuffer::Create(4096);
  device_->RefusePins(1);
  const absl::Status status = device_->Pin(host.span());
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("cannot pin 4.00 KiB of memory"));
  EXPECT_TRUE(device_->Pin(host.span()).ok());
  device_->Unpin(host.span());
}

TEST_F(ModelledDeviceTest, ReportsTheTimeOfEachStream) {
  class Counters final : public CounterVisitor {
   public:
    void Counter(std::string_view name, uint64_t value) override {
      values[std::string(name)] = value;
    }
    void Gauge(std::string_view, double) override {}
    std::map<std::string, uint64_t> values;
  } counters;
  CopyIn(1000);
  Compute(1000);
  Compute(1000);
  device_->WaitFor(Stream::kCopyOut, device_->Record(Stream::kCopyIn));
  CopyOut(1000);
  device_->Report(counters);
  EXPECT_EQ(counters.values["modelled_copy_in_busy_ns"], 1100);
  EXPECT_EQ(counters.values["modelled_compute_busy_ns"], 1060);
  EXPECT_EQ(counters.values["modelled_copy_out_busy_ns"], 2100);
}

TEST_F(ModelledDeviceTest, OptionsThatMakeNoSenseAreRefused) {
  const auto is_refused = [](const auto& change) {
    DeviceOptions options = kOptions;
    change(options);
    const auto device = MakeModelledDevice(options);
    return absl::IsInvalidArgument(device.status());
  };
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.memory_bytes_per_second = 0; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.copy_in_bytes_per_second = -1; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.copy_out_bytes_per_second = kNone; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.launch_ns = -1; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.repeat_ns = -1; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.copy_in_ns = -1; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.rates.copy_out_ns = -1; }));
  EXPECT_TRUE(is_refused([](DeviceOptions& o) { o.modelled_memory_bytes = 0; }));
  EXPECT_FALSE(is_refused([](DeviceOptions&) {}));
}

TEST(ModelledDevice, EndlessRatesLeaveTheLatencies) {
  constexpr double kEndless = std::numeric_limits<double>::infinity();
  VirtualClock clock;
  const auto device = *MakeModelledDevice({.rates = {.memory_bytes_per_second = kEndless,
                                                     .copy_in_bytes_per_second = kEndless,
                                                     .copy_out_bytes_per_second = kEndless}},
                                          &clock);
  const DeviceBuffer buffer = *device->Take(1 << 20);
  const std::vector<std::byte> host(1 << 20);
  device->CopyIn(Stream::kCopyIn, buffer.data(), host.data(), host.size());
  ASSERT_TRUE(device->Await(device->Record(Stream::kCopyIn)).ok());
  EXPECT_EQ(clock.NowNs(), ModelledRates().copy_in_ns);
}

TEST(ModelledDevice, OnTheRealClockWorkTakesItsTime) {
  DeviceOptions options = kOptions;
  options.rates.copy_in_ns = 400'000;
  const auto device = *MakeModelledDevice(options);
  const DeviceBuffer buffer = *device->Take(1000);
  std::vector<std::byte> host(1000);
  const RealClock clock;
  const int64_t begin_ns = clock.NowNs();
  device->CopyIn(Stream::kCopyIn, buffer.data(), host.data(), 1000);
  device->CopyIn(Stream::kCopyIn, buffer.data(), host.data(), 1000);
  ASSERT_TRUE(device->Await(device->Record(Stream::kCopyIn)).ok());
  EXPECT_GE(clock.NowNs() - begin_ns, 2 * (400'000 + 1000));
}

using ModelledDeviceDeathTest = ModelledDeviceTest;

TEST_F(ModelledDeviceDeathTest, CopyOutsideOfWhatWasTakenIsFound) {
  EXPECT_DEATH(CopyIn(10'001), "IsTaken");
  EXPECT_DEATH(device_->CopyOut(Stream::kCopyOut, host_, buffer_.data() - 1, 1), "IsTaken");
}

#if defined(__SANITIZE_ADDRESS__)
TEST_F(ModelledDeviceDeathTest, KernelOutsideOfWhatWasTakenIsFound) {
  const auto reach_outside = [&] {
    FillDevice(1, 10'001);
    Finish(Stream::kCompute).IgnoreError();
  };
  EXPECT_DEATH(reach_outside(), "use-after-poison");
}
#endif

TEST_F(ModelledDeviceTest, WorkThatIsOnlyTimedTakesItsTimeAndTouchesNothing) {
  DeviceOptions options = kOptions;
  options.modelled_times_only = true;
  const auto timed = *MakeModelledDevice(options, &clock_);
  const DeviceBuffer memory = *timed->Take(1000);
  timed->CopyOut(Stream::kCompute, host_, memory.data(), 1000);
  Enqueue(*timed, Stream::kCompute, Note{.notes = &notes_, .value = 1}, 1000);
  ASSERT_TRUE(timed->Await(timed->Record(Stream::kCompute)).ok());
  EXPECT_EQ(clock_.NowNs(), 100 + 2000 + 30 + 500);
  EXPECT_THAT(host_, Each(std::byte{1}));
  EXPECT_TRUE(notes_.empty());
}

}  // namespace
}  // namespace stoker
