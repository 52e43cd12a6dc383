// Counts cores.
#include "runtime/team_options.h"

namespace stoker {

ThreadTeam::Options TeamOptions(const Topology& topology, int threads_asked) {
  ThreadTeam::Options options;
  options.thread_count = threads_asked > 0 ? threads_asked : topology.physical_core_count;
  const auto cpu_count = static_cast<int>(topology.cpus.size());
  if (cpu_count > topology.physical_core_count &&
      options.thread_count <= topology.physical_core_count) {
    options.cpus.assign(topology.cpus.begin(), topology.cpus.begin() + options.thread_count);
  }
  return options;
}

}  // namespace stoker
