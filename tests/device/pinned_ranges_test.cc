// Which host memory counts as pinned.
#include "device/pinned_ranges.h"

#include <gtest/gtest.h>

#include "device/buffer.h"

namespace stoker {
namespace {

TEST(PinnedRanges, ContainsWhatLiesInOneRange) {
  const HostBuffer host = *HostBuffer::Create(5 * 4096);
  PinnedRanges ranges;
  EXPECT_TRUE(ranges.IsEmpty());
  EXPECT_FALSE(ranges.Contains(host.data(), 1));
  ranges.Add({host.data() + 4096, 4096});
  ranges.Add({host.data() + 8192, 5000});
  EXPECT_EQ(ranges.TotalBytes(), 9096);
  EXPECT_FALSE(ranges.Contains(host.data() + 4095, 2));
  EXPECT_TRUE(ranges.Contains(host.data() + 4096, 4096));
  EXPECT_FALSE(ranges.Contains(host.data() + 4096, 4097));
  EXPECT_TRUE(ranges.Contains(host.data() + 13191, 1));
  EXPECT_FALSE(ranges.Contains(host.data() + 13192, 1));
  ranges.Remove({host.data() + 4096, 4096});
  EXPECT_FALSE(ranges.Contains(host.data() + 4096, 1));
  EXPECT_FALSE(ranges.IsEmpty());
}

TEST(PinnedRangesDeathTest, OverlapsAndStrangersAreOurMistakes) {
  const HostBuffer host = *HostBuffer::Create(5 * 4096);
  PinnedRanges ranges;
  ranges.Add({host.data() + 4096, 5000});
  EXPECT_DEATH(ranges.Add({host.data() + 8192, 4096}), "check failed");
  EXPECT_DEATH(ranges.Add({host.data() + 1, 4}), "check failed");
  EXPECT_DEATH(ranges.Remove({host.data() + 4096, 4096}), "check failed");
}

}  // namespace
}  // namespace stoker
