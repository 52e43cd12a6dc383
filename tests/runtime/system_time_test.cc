// Claims of system_time.h.
#include "runtime/system_time.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace stoker {
namespace {

TEST(SystemTime, GrowsWithTheKernelsWorkForThisProcessAndNeverGoesBack) {
  constexpr size_t kBytes = size_t{16} << 20;
  constexpr int kRoundsMax = 100'000;  // many minutes: only a clock that stands still gets there
  const int64_t start_ns = SystemTimeNs();
  int64_t last_ns = start_ns;
  for (int round = 0; round < kRoundsMax && last_ns == start_ns; ++round) {
    void* const pages = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    ASSERT_NE(pages, MAP_FAILED);
    munmap(pages, kBytes);
    const int64_t now_ns = SystemTimeNs();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
  EXPECT_GT(last_ns, start_ns);
}

}  // namespace
}  // namespace stoker
