// The memory that a process may still take, read from any directory that looks like a root.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/topology.h"

namespace stoker {

// One cgroup with a memory limit.
struct CgroupMemory {
  std::string directory;
  uint64_t limit_bytes = 0;
  uint64_t used_bytes = 0;  // without page cache, which gives way by itself
};

// The limits on this process under `root` (empty for the real one; a directory with proc/ and sys/
// for tests): of its own cgroup and of each that contains it as far as they are mounted, versions 1
// and 2, found by proc/self/cgroup and proc/self/mountinfo. Cgroups without a limit are left out.
std::vector<CgroupMemory> ReadCgroupMemory(const std::string& root);

// ReadMemoryLimits under `root`.
MemoryLimits ReadMemoryLimitsUnder(const std::string& root);

}  // namespace stoker
