// Large memory: zeroed, aligned, resident when promised, refused when it does not fit.
#include "device/buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "device/topology.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;

TEST(HostBuffer, IsZeroedAndWritable) {
  const auto buffer = HostBuffer::Create(3 * kMiB + 5);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(buffer->bytes(), 3 * kMiB + 5);
  const auto bytes = buffer->span();
  EXPECT_TRUE(
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
  std::fill(bytes.begin(), bytes.end(), std::byte{1});
}

TEST(HostBuffer, LargeOnesStartOnAHugePage) {
  for (const size_t bytes : {2 * kMiB, 5 * kMiB, 64 * kMiB + 1}) {
    const auto buffer = HostBuffer::Create(bytes, HostBuffer::Touch::kLazily);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % (2 * kMiB), 0);
    EXPECT_THAT(buffer->pages(), HasSubstr("pages"));
  }
}

TEST(HostBuffer, SmallOnesStartOnAPage) {
  const auto buffer = HostBuffer::Create(100);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 4096, 0);
  EXPECT_EQ(buffer->pages(), "4 KiB pages");
}

TEST(HostBuffer, TouchedOnesAreResidentAndLazyOnesAreNot) {
  const uint64_t before = ResidentBytes();
  const auto lazy = HostBuffer::Create(64 * kMiB, HostBuffer::Touch::kLazily);
  ASSERT_TRUE(lazy.ok());
  EXPECT_LT(ResidentBytes() - before, 8 * kMiB);
  const auto touched = HostBuffer::Create(64 * kMiB);
  ASSERT_TRUE(touched.ok());
  EXPECT_GE(ResidentBytes() - before, 60 * kMiB);
}

TEST(HostBuffer, MemoryGoesBackWhenItIsDestroyed) {
  const uint64_t before = ResidentBytes();
  { ASSERT_TRUE(HostBuffer::Create(64 * kMiB).ok()); }
  EXPECT_LT(ResidentBytes(), before + 8 * kMiB);
}

TEST(HostBuffer, MovingHandsTheMemoryOver) {
  HostBuffer one = *HostBuffer::Create(kMiB);
  std::byte* data = one.data();
  HostBuffer other = std::move(one);
  EXPECT_EQ(other.data(), data);
  HostBuffer third;
  third = std::move(other);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.bytes(), kMiB);
}

TEST(HostBuffer, NothingIsABuffer) {
  const auto buffer = HostBuffer::Create(0);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->bytes(), 0);
}

TEST(HostBuffer, MoreThanThereIsIsRefusedBeforeItIsTaken) {
  for (const size_t bytes : {size_t{1} << 46, ~size_t{0}, ~size_t{0} - 4096}) {
    const auto buffer = HostBuffer::Create(bytes);
    EXPECT_TRUE(absl::IsResourceExhausted(buffer.status())) << buffer.status();
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Sanitizers take terabytes of address space themselves.
void CreateUnderAddressLimit() {
  const rlimit limit = {.rlim_cur = 256 * kMiB, .rlim_max = 256 * kMiB};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(2);
  const auto buffer = HostBuffer::Create(512 * kMiB);
  std::_Exit(absl::IsResourceExhausted(buffer.status()) ? 0 : 1);
}

TEST(HostBufferDeathTest, AddressSpaceLimitIsResourceExhausted) {
  EXPECT_EXIT(CreateUnderAddressLimit(), ::testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace stoker
