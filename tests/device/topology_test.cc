// The processors that a process may use, as the kernel sees them.
#include "device/topology.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <set>
#include <vector>

#include "base/check.h"

namespace stoker {
namespace {

std::set<int> Allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
  std::set<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.insert(cpu);
  }
  return cpus;
}

TEST(Topology, EveryAllowedProcessorIsListedOnce) {
  const Topology topology = ReadTopology();
  const std::set<int> listed(topology.cpus.begin(), topology.cpus.end());
  EXPECT_EQ(listed, Allowed());
  EXPECT_EQ(listed.size(), topology.cpus.size());
}

TEST(Topology, CoresAreAtLeastOneAndAtMostTheProcessors) {
  const Topology topology = ReadTopology();
  EXPECT_GE(topology.physical_core_count, 1);
  EXPECT_LE(topology.physical_core_count, static_cast<int>(topology.cpus.size()));
  EXPECT_GE(topology.numa_node_count, 1);
}

TEST(Topology, ProcessorsNearTheNodesAreAllOfThem) {
  const std::vector<int> all = ReadTopology().cpus;
  EXPECT_EQ(CpusNear(-1), all);
  EXPECT_EQ(CpusNear(123456), all);
  std::set<int> near;
  for (int node = 0; node < ReadTopology().numa_node_count; ++node) {
    for (const int cpu : CpusNear(node)) near.insert(cpu);
  }
  EXPECT_EQ(near, std::set<int>(all.begin(), all.end()));
}

// Runs in a child, so that the other tests keep their processors.
void ReadBoundToOneProcessor() {
  const int only = *Allowed().rbegin();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(only, &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) std::_Exit(2);
  const Topology topology = ReadTopology();
  const bool is_right =
      topology.cpus == std::vector<int>{only} && topology.physical_core_count == 1;
  std::_Exit(is_right ? 0 : 1);
}

TEST(TopologyDeathTest, AffinityIsRespected) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(ReadBoundToOneProcessor(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace stoker
