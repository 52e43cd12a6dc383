// Claims of device_choice.h.
#include "runtime/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace stoker {
namespace {

using testing::AllOf;
using testing::HasSubstr;

EngineOptions On(std::string_view device) {
  EngineOptions options;
  options.device = device;
  return options;
}

TEST(ChooseDevice, TheProcessorAloneIsNoDevice) {
  const auto chosen = ChooseDevice(On("cpu"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->device, nullptr);
  EXPECT_EQ(chosen->ops, nullptr);
  EXPECT_EQ(DescribeDevice(nullptr), "none");
}

TEST(ChooseDevice, AModelledDeviceHasThePropertiesAskedFor) {
  EngineOptions options = On("modelled");
  options.modelled.memory_bytes = 7 << 20;
  const auto chosen = ChooseDevice(options);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->device->kind(), "modelled");
  EXPECT_EQ(chosen->device->info().memory_bytes, uint64_t{7} << 20);
  ASSERT_NE(chosen->ops, nullptr);
  EXPECT_THAT(DescribeDevice(chosen->device.get()), HasSubstr(chosen->device->info().name));
}

TEST(ChooseDevice, AModelledLinkIsTheSameEachWayUnlessToldOtherwise) {
  EngineOptions options = On("modelled");
  const auto describe = [&] { return DescribeDevice(ChooseDevice(options)->device.get()); };
  options.modelled.link_rate = 1e10;
  options.modelled.link_latency_us = 20;
  EXPECT_THAT(describe(), HasSubstr("in at 10.00 GB/s after 20 us, out at 10.00 GB/s after 20 us"));
  options.modelled.link_out_rate = 5e9;
  options.modelled.link_out_latency_us = 0;
  EXPECT_THAT(describe(), HasSubstr("in at 10.00 GB/s after 20 us, out at 5.00 GB/s after 0 us"));
}

TEST(ChooseDevice, AutoIsTheProcessorWhereThereIsNoGpu) {
  if (UsableGpuCount() > 0) GTEST_SKIP() << "there is a GPU";
  const auto chosen = ChooseDevice(On("auto"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->device, nullptr);
}

TEST(ChooseDevice, AutoWithoutAGpuDropsNothingThatNeedsOne) {
  if (UsableGpuCount() > 0) GTEST_SKIP() << "there is a GPU";
  EngineOptions vram = On("auto"), place = On("auto"), gpu = On("auto");
  vram.vram = MemoryBudget();
  place.place = PlaceRule::kAuto;
  gpu.gpu = 0;
  for (const auto& [options, name] :
       {std::pair(vram, "vram"), std::pair(place, "place"), std::pair(gpu, "gpu")}) {
    const absl::Status status = ChooseDevice(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(MessageOf(status)), AllOf(HasSubstr(name), HasSubstr("no GPU")));
  }
}

TEST(ChooseDevice, AGpuAskedForThatIsNotThereSaysWhatIsMissing) {
  if (UsableGpuCount() > 0) GTEST_SKIP() << "there is a GPU";
  const absl::Status status = ChooseDevice(On("cuda")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("--device cpu"));
}

TEST(ChooseDevice, AutoTakesTheGpuThatThereIs) {
  if (UsableGpuCount() == 0) GTEST_SKIP() << "no GPU here";
  const auto chosen = ChooseDevice(On("auto"));
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->device->kind(), "cuda");
}

}  // namespace
}  // namespace stoker
