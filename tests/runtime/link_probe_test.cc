// Claims of link_traffic.h and link_probe.h, on a virtual clock where time is part of the claim.
#include "runtime/link_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <string>

#include "base/status.h"
#include "device/modelled_device.h"
#include "kernels/backends.h"
#include "runtime/link_traffic.h"
#include "tests/runtime/shipped_model.h"
#include "tests/testing/fault_reader.h"

namespace stoker {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kUs = 1'000;
constexpr int64_t kMs = 1'000'000;

// Moves so many bytes each time it is pumped, which takes so long.
class SteadyTraffic final : public Traffic {
 public:
  SteadyTraffic(VirtualClock& clock, int64_t ns, uint64_t bytes)
      : clock_(clock), ns_(ns), bytes_(bytes) {}
  absl::Status Pump() override {
    clock_.AdvanceNs(ns_);
    Count(bytes_);
    return status;
  }
  absl::Status Drain() override {
    is_drained = true;
    return absl::OkStatus();
  }
  absl::Status status;
  bool is_drained = false;

 private:
  VirtualClock& clock_;
  const int64_t ns_;
  const uint64_t bytes_;
};

TEST(MeasureTraffic, RatesAreBytesByTimeOfAllThatRunTogether) {
  VirtualClock clock;
  SteadyTraffic slow(clock, 10 * kUs, 1000), fast(clock, 10 * kUs, 4000);
  Traffic* const both[] = {&slow, &fast};
  const auto rates = MeasureTraffic(both, {.least_ns = kMs, .most_ns = kMs}, clock);
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_THAT(*rates, ElementsAre(DoubleNear(50e6, 1), DoubleNear(200e6, 1)));
  EXPECT_TRUE(slow.is_drained && fast.is_drained);
}

TEST(MeasureTraffic, WarmingUpIsNotCounted) {
  VirtualClock clock;
  SteadyTraffic traffic(clock, 10 * kUs, 1000);
  Traffic* const one = &traffic;
  ASSERT_TRUE(
      MeasureTraffic({&one, 1}, {.warm_ns = kMs, .least_ns = kMs, .most_ns = kMs}, clock).ok());
  EXPECT_EQ(clock.NowNs(), 2 * kMs);
}

TEST(MeasureTraffic, ASlowLinkGetsMoreTimeAndNotForEver) {
  VirtualClock clock;
  SteadyTraffic traffic(clock, kMs, 1000);
  Traffic* const one = &traffic;
  ASSERT_TRUE(MeasureTraffic({&one, 1}, {.least_ns = kMs, .most_ns = 100 * kMs}, clock).ok());
  EXPECT_EQ(clock.NowNs(), kTrafficUnitsMin * kMs);
  ASSERT_TRUE(MeasureTraffic({&one, 1}, {.least_ns = kMs, .most_ns = 3 * kMs}, clock).ok());
  EXPECT_EQ(clock.NowNs(), (kTrafficUnitsMin + 3) * kMs);
}

TEST(MeasureTraffic, AnErrorEndsItWithNothingUnderWay) {
  VirtualClock clock;
  SteadyTraffic broken(clock, kUs, 1), whole(clock, kUs, 1);
  broken.status = absl::UnavailableError("broken");
  Traffic* const both[] = {&whole, &broken};
  EXPECT_EQ(MeasureTraffic(both, {.least_ns = kMs, .most_ns = kMs}, clock).status(), broken.status);
  EXPECT_TRUE(whole.is_drained && broken.is_drained);
}

// Copies on a device whose clock a second traffic drives.
class CopyTrafficTest : public testing::Test {
 protected:
  static constexpr uint64_t kPieceBytes = 1 << 20;
  void SetUp() override {
    device_ = *MakeModelledDevice({.rates = {.memory_bytes_per_second = 20e9,
                                             .copy_in_bytes_per_second = 4e9,
                                             .copy_out_bytes_per_second = 1e9,
                                             .launch_ns = 0,
                                             .copy_in_ns = 0,
                                             .copy_out_ns = 0}},
                                  &clock_);
    host_ = *HostBuffer::Create(4 * kPieceBytes);
    ASSERT_TRUE(device_->Pin(host_.span()).ok());
    on_device_ = *device_->Take(2 * kPieceBytes);
  }
  void TearDown() override { device_->Unpin(host_.span()); }

  std::unique_ptr<Traffic> Copies(Stream stream) {
    const absl::Span<std::byte> on_device(on_device_.data(), on_device_.bytes());
    CopyTrafficOptions options = {.device = device_.get(),
                                  .stream = stream,
                                  .from = host_.span(),
                                  .to = on_device,
                                  .piece_bytes = kPieceBytes};
    if (stream == Stream::kCopyOut) options.from = on_device, options.to = host_.span();
    if (stream == Stream::kCompute) {
      options.from = on_device.first(kPieceBytes);
      options.to = on_device.last(kPieceBytes);
    }
    return MakeCopyTraffic(options);
  }
  std::vector<double> Measure(std::vector<Traffic*> traffic) {
    SteadyTraffic time(clock_, 10 * kUs, 1);
    traffic.push_back(&time);
    const auto rates = MeasureTraffic(
        traffic, {.warm_ns = 5 * kMs, .least_ns = 50 * kMs, .most_ns = 50 * kMs}, clock_);
    EXPECT_TRUE(rates.ok()) << rates.status();
    return rates.value_or(std::vector<double>());
  }

  VirtualClock clock_;
  std::unique_ptr<ModelledDevice> device_;
  HostBuffer host_;
  DeviceBuffer on_device_;
};

TEST_F(CopyTrafficTest, FindsTheRateOfEachWayAloneAndTogether) {
  const auto in = Copies(Stream::kCopyIn), out = Copies(Stream::kCopyOut);
  EXPECT_THAT(Measure({in.get()})[0], DoubleNear(4e9, 0.1e9));
  EXPECT_THAT(Measure({out.get()})[0], DoubleNear(1e9, 0.05e9));
  const std::vector<double> together = Measure({in.get(), out.get()});
  EXPECT_THAT(together[0], DoubleNear(4e9, 0.1e9));
  EXPECT_THAT(together[1], DoubleNear(1e9, 0.05e9));
}

TEST_F(CopyTrafficTest, WithinTheDeviceBytesCountAsReadAndWritten) {
  const auto within = Copies(Stream::kCompute);
  EXPECT_THAT(Measure({within.get()})[0], DoubleNear(20e9, 0.5e9));
}

TEST_F(CopyTrafficTest, ADeviceThatFailsIsAnErrorThatSaysWhat) {
  const auto in = Copies(Stream::kCopyIn);
  device_->FailOperation(3);
  SteadyTraffic time(clock_, 10 * kUs, 1);
  Traffic* const both[] = {in.get(), &time};
  const absl::Status status =
      MeasureTraffic(both, {.least_ns = 50 * kMs, .most_ns = 50 * kMs}, clock_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("copy in"));
}

// What the shipped model's experts are measured with.
class ModelLinks : public testing::Test {
 protected:
  void SetUp() override {
    const auto gguf = GgufModel::Open(ShippedModelPath());
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    spec_ = *ModelSpec::Read(*gguf);
    shape_ = *ShapeOfExperts(*gguf, spec_);
    reader_ = MakePreadReader({});
    for (const std::string& path : gguf->paths()) ASSERT_TRUE(reader_->AddFile(path).ok());
  }
  LinkParts Parts(Device* device, BlockReader* reader) {
    return {.ops = *SelectOps("auto"),
            .team = &team_,
            .clock = &clock_,
            .shape = shape_,
            .device = device,
            .reader = reader,
            .experts = &spec_.experts,
            .host_bytes = 8 << 20,
            .device_bytes = 1 << 20};
  }

  RealClock clock_;
  ThreadTeam team_{{.thread_count = 2}};
  ModelSpec spec_;
  ExpertShape shape_;
  std::unique_ptr<BlockReader> reader_;
};

TEST_F(ModelLinks, ShapeIsThatOfTheCatalogsExperts) {
  EXPECT_EQ(ExpertBytes(shape_), ExpertCatalog::ExpertBytes(spec_.experts.layers.front()));
}

TEST_F(ModelLinks, HostTrafficCountsWeightsTimesRows) {
  const HostBuffer weights = *HostBuffer::Create(3 * ExpertBytes(shape_));
  for (const int rows : {1, kManyRows}) {
    const auto traffic = MakeHostTraffic({.ops = *SelectOps("auto"),
                                          .team = &team_,
                                          .shape = shape_,
                                          .weights = weights.span(),
                                          .rows = rows});
    ASSERT_TRUE(traffic.ok()) << traffic.status();
    ASSERT_TRUE((*traffic)->Pump().ok());
    EXPECT_GT((*traffic)->bytes(), 0u);
    EXPECT_EQ((*traffic)->bytes() % (ExpertBytes(shape_) * static_cast<uint64_t>(rows)), 0u);
  }
}

TEST_F(ModelLinks, DriveTrafficFailsAsTheDriveDoes) {
  FaultReader faults(*reader_, {});
  faults.FailRange(0, 0, uint64_t{1} << 40, EIO);
  const HostBuffer target = *HostBuffer::Create(4 * DriveReadBytes(faults, spec_.experts));
  const auto drive =
      MakeDriveTraffic({.reader = &faults, .experts = &spec_.experts, .target = target.span()});
  Traffic* const one = drive.get();
  const absl::Status status =
      MeasureTraffic({&one, 1}, {.least_ns = kMs, .most_ns = 1000 * kMs}, clock_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("drive"));
  EXPECT_EQ(faults.in_flight(), 0u);
}

class Numbers final : public CounterVisitor {
 public:
  void Counter(std::string_view name, uint64_t value) override {
    values[std::string(name)] = static_cast<double>(value);
  }
  void Gauge(std::string_view name, double value) override { values[std::string(name)] = value; }
  std::map<std::string, double> values;
};

TEST_F(ModelLinks, ProbeFindsEveryRateAndLeavesNothingTaken) {
  const auto device = *MakeModelledDevice({});
  const auto rates = ProbeLinks(Parts(device.get(), reader_.get()));
  ASSERT_TRUE(rates.ok()) << rates.status();
  for (const double rate :
       {rates->host, rates->host_row, rates->copy_in, rates->copy_out, rates->host_beside_copy,
        rates->copy_beside_host, rates->device, rates->drive}) {
    EXPECT_GT(rate, 0);
  }
  Numbers numbers;
  device->Report(numbers);
  EXPECT_EQ(numbers.values["device_taken_bytes"], 0);
  EXPECT_EQ(numbers.values["device_pinned_bytes"], 0);
  EXPECT_EQ(numbers.values["device_unpinned_copies"], 0);
  EXPECT_EQ(reader_->in_flight(), 0u);
}

TEST_F(ModelLinks, ARateThatIsSetIsNotMeasured) {
  const auto device = *MakeModelledDevice({});
  LinkParts parts = Parts(device.get(), nullptr);
  parts.device_rate = 1.5e12;
  const auto rates = ProbeLinks(parts);
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_EQ(rates->device, 1.5e12);
  Numbers numbers;
  device->Report(numbers);
  EXPECT_EQ(numbers.values["device_copies_within"], 0);
}

TEST_F(ModelLinks, WithoutADeviceThereAreNoCopiesToMeasure) {
  const auto rates = ProbeLinks(Parts(nullptr, reader_.get()));
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_GT(rates->host, 0);
  EXPECT_EQ(rates->copy_in, 0);
  EXPECT_EQ(rates->copy_beside_host, 0);
}

TEST_F(ModelLinks, ADriveThatFailsAReadLeavesItsRateUnknown) {
  FaultReader faults(*reader_, {});
  faults.FailRange(0, 0, uint64_t{1} << 40, EIO);
  const auto rates = ProbeLinks(Parts(nullptr, &faults));
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_EQ(rates->drive, 0);
  EXPECT_GT(rates->host, 0);
}

TEST_F(ModelLinks, MemoryThatCannotBePinnedIsTheDevicesError) {
  const auto device = *MakeModelledDevice({});
  device->RefusePins(1);
  EXPECT_EQ(ProbeLinks(Parts(device.get(), nullptr)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace stoker
