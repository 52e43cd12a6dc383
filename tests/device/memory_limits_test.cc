// Memory limits read from directories that look like a root: cgroups of both versions, containers.
#include "device/memory_limits.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

class MemoryLimitsTest : public ::testing::Test {
 protected:
  MemoryLimitsTest() {
    Put("proc/meminfo",
        "MemTotal:       16777216 kB\nMemFree:          100 kB\nMemAvailable:    8388608 kB\n");
  }
  void Put(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_.File(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void PutVersionTwo(const std::string& directory, const std::string& limit, uint64_t current,
                     uint64_t cache) {
    Put(directory + "/memory.max", limit + "\n");
    Put(directory + "/memory.current", std::to_string(current) + "\n");
    Put(directory + "/memory.stat", "anon 5\ninactive_file " + std::to_string(cache / 2) +
                                        "\nactive_file " + std::to_string(cache - cache / 2) +
                                        "\nfile 99\n");
  }
  void PutVersionOne(const std::string& directory, uint64_t limit, uint64_t usage, uint64_t cache) {
    Put(directory + "/memory.limit_in_bytes", std::to_string(limit) + "\n");
    Put(directory + "/memory.usage_in_bytes", std::to_string(usage) + "\n");
    Put(directory + "/memory.stat", "inactive_file 1\ntotal_inactive_file " +
                                        std::to_string(cache) + "\ntotal_active_file 0\n");
  }
  void MountVersionTwo(const std::string& subtree = "/") {
    Put("proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n30 1 0:26 " + subtree +
                                   " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
  }
  MemoryLimits Read() const { return ReadMemoryLimitsUnder(root_.path()); }

  TemporaryDirectory root_;
};

TEST_F(MemoryLimitsTest, WithoutCgroupsTheSystemDecides) {
  const MemoryLimits limits = Read();
  EXPECT_EQ(limits.available_bytes, 8 * kGiB);
  EXPECT_EQ(limits.total_bytes, 16 * kGiB);
  EXPECT_EQ(limits.source, "system");
}

TEST_F(MemoryLimitsTest, VersionTwoLimitCountsAndPageCacheDoesNot) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/work/job\n");
  PutVersionTwo("sys/fs/cgroup/work/job", std::to_string(3 * kGiB), 2 * kGiB, kGiB);
  const MemoryLimits limits = Read();
  EXPECT_EQ(limits.available_bytes, 2 * kGiB);
  EXPECT_EQ(limits.total_bytes, 3 * kGiB);
  EXPECT_EQ(limits.source, "cgroup memory limit of 3.00 GiB");
}

TEST_F(MemoryLimitsTest, TighterParentDecides) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/work/job\n");
  PutVersionTwo("sys/fs/cgroup/work/job", "max", kGiB, 0);
  PutVersionTwo("sys/fs/cgroup/work", std::to_string(4 * kGiB), 3 * kGiB, 0);
  const MemoryLimits limits = Read();
  EXPECT_EQ(limits.available_bytes, kGiB);
  EXPECT_EQ(limits.total_bytes, 4 * kGiB);
}

TEST_F(MemoryLimitsTest, ThrottlingLimitIsALimit) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/job\n");
  PutVersionTwo("sys/fs/cgroup/job", "max", 0, 0);
  Put("sys/fs/cgroup/job/memory.high", std::to_string(kGiB));
  EXPECT_EQ(Read().available_bytes, kGiB);
}

TEST_F(MemoryLimitsTest, LimitWiderThanTheSystemDoesNotCount) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/job\n");
  PutVersionTwo("sys/fs/cgroup/job", std::to_string(100 * kGiB), 0, 0);
  EXPECT_EQ(Read().source, "system");
}

TEST_F(MemoryLimitsTest, UseBeyondTheLimitLeavesNothing) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/job\n");
  PutVersionTwo("sys/fs/cgroup/job", std::to_string(kGiB), 2 * kGiB, 0);
  EXPECT_EQ(Read().available_bytes, 0);
}

TEST_F(MemoryLimitsTest, ContainerWithItsOwnNamespaceFindsItsLimitAtTheRoot) {
  MountVersionTwo();
  Put("proc/self/cgroup", "0::/\n");
  PutVersionTwo("sys/fs/cgroup", std::to_string(2 * kGiB), kGiB / 2, 0);
  EXPECT_EQ(Read().available_bytes, 2 * kGiB - kGiB / 2);
}

TEST_F(MemoryLimitsTest, ContainerThatMountsASubtreeFindsItself) {
  MountVersionTwo("/docker/abc");
  Put("proc/self/cgroup", "0::/docker/abc/inner\n");
  PutVersionTwo("sys/fs/cgroup/inner", std::to_string(2 * kGiB), 0, 0);
  EXPECT_EQ(Read().total_bytes, 2 * kGiB);
}

TEST_F(MemoryLimitsTest, VersionOneLimitsAreFoundInEveryParent) {
  Put("proc/self/mountinfo",
      "31 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
      "32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  Put("proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/work/job\n0::/\n");
  PutVersionOne("sys/fs/cgroup/memory/work/job", 3 * kGiB, 2 * kGiB, kGiB);
  PutVersionOne("sys/fs/cgroup/memory/work", 9223372036854771712u, 5 * kGiB, 0);
  PutVersionOne("sys/fs/cgroup/memory", 4 * kGiB, 3 * kGiB, 0);
  const auto cgroups = ReadCgroupMemory(root_.path());
  ASSERT_EQ(cgroups.size(), 2);
  EXPECT_EQ(cgroups[0].limit_bytes, 3 * kGiB);
  EXPECT_EQ(cgroups[0].used_bytes, kGiB);
  EXPECT_EQ(cgroups[1].limit_bytes, 4 * kGiB);
  EXPECT_EQ(Read().available_bytes, kGiB);
}

TEST_F(MemoryLimitsTest, NonsenseInTheFilesIsNoLimit) {
  Put("proc/self/mountinfo", "short\n\n- - - -\n30 1 0:26 / /sys/fs/cgroup rw - cgroup2 x rw\n");
  Put("proc/self/cgroup", "no colons\n0:only one\n0::/job\n");
  Put("sys/fs/cgroup/job/memory.max", "many\n");
  EXPECT_EQ(Read().source, "system");
}

TEST(MemoryLimits, OfThisMachineArePlausible) {
  const MemoryLimits limits = ReadMemoryLimits();
  EXPECT_GT(limits.available_bytes, 0);
  EXPECT_LE(limits.available_bytes, limits.total_bytes);
  EXPECT_GT(ResidentBytes(), 100'000);
}

}  // namespace
}  // namespace stoker
