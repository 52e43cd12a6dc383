// What the machine has: cores to compute on, memory to plan with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stoker {

struct Topology {
  // Logical processors this process may use, best first: one per physical core (NUMA node by node),
  // then their siblings.
  std::vector<int> cpus;
  int physical_core_count = 0;  // that the process may use
  int numa_node_count = 1;
  std::string processor;  // "AMD EPYC ...", or empty
};
// By hwloc; falls back to sched_getaffinity when hwloc cannot tell.
Topology ReadTopology();

// Those of ReadTopology().cpus, in its order, that are near the memory of a NUMA node (as the
// system counts them); all of them when the node is below 0, not known, or has none that the
// process may use.
std::vector<int> CpusNear(int numa_node);

// Memory that this process could still take without pushing anything out: the least of the system's
// MemAvailable, and of limit minus use (page cache not counted as use) in each of its cgroups (v1
// and v2).
struct MemoryLimits {
  uint64_t available_bytes = 0;
  uint64_t total_bytes = 0;  // of the machine or of the tightest cgroup
  std::string source;        // "system", "cgroup memory limit of 3.00 GiB"
};
MemoryLimits ReadMemoryLimits();

// Resident bytes of this process (VmRSS).
uint64_t ResidentBytes();

}  // namespace stoker
