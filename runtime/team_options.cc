// Counts and orders cores.
#include "runtime/team_options.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"

namespace stoker {

ThreadTeam::Options TeamOptions(const Topology& topology, int threads_asked,
                                absl::Span<const int> near_cpus) {
  ThreadTeam::Options options;
  options.thread_count = threads_asked > 0 ? threads_asked : topology.physical_core_count;
  if (options.thread_count > topology.physical_core_count) return options;
  std::vector<int> cores(topology.cpus.begin(),
                         topology.cpus.begin() + topology.physical_core_count);
  const auto is_near = [&](int cpu) { return absl::c_linear_search(near_cpus, cpu); };
  const auto far = std::stable_partition(cores.begin(), cores.end(), is_near);
  const bool has_far_and_near = far != cores.begin() && far != cores.end();
  const bool has_siblings = topology.cpus.size() > cores.size();
  if (!has_far_and_near && !has_siblings) return options;
  cores.resize(static_cast<size_t>(options.thread_count));
  options.cpus = std::move(cores);
  return options;
}

ThreadTeam::Options TeamOptionsHere(int threads_asked, const Device* device) {
  const int node = device != nullptr ? device->info().numa_node : -1;
  const std::vector<int> near_cpus = node >= 0 ? CpusNear(node) : std::vector<int>();
  return TeamOptions(ReadTopology(), threads_asked, near_cpus);
}

}  // namespace stoker
