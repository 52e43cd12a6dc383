// Cores by hwloc.
#include "device/topology.h"

#include <hwloc.h>
#include <sched.h>

#include <memory>
#include <type_traits>

namespace stoker {
namespace {

struct TopologyDeleter {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using TopologyPtr = std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, TopologyDeleter>;

TopologyPtr Load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  TopologyPtr topology(raw);
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

// Processors that the process is bound to; hwloc knows what the machine and the cpuset allow, but
// not taskset's choice.
cpu_set_t Affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) CPU_SET(0, &set);
  return set;
}

Topology WithoutHwloc(const cpu_set_t& allowed) {
  Topology result;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) result.cpus.push_back(cpu);
  }
  result.physical_core_count = static_cast<int>(result.cpus.size());
  return result;
}

// Cores in hwloc's logical order, which goes NUMA node by NUMA node.
void AddCores(hwloc_topology_t topology, const cpu_set_t& allowed, Topology& result) {
  std::vector<int> siblings;
  const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t core =
        hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
    bool is_first = true;
    for (int cpu = hwloc_bitmap_first(core->cpuset); cpu >= 0;
         cpu = hwloc_bitmap_next(core->cpuset, cpu)) {
      if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed)) continue;
      (is_first ? result.cpus : siblings).push_back(cpu);
      is_first = false;
    }
  }
  result.physical_core_count = static_cast<int>(result.cpus.size());
  result.cpus.insert(result.cpus.end(), siblings.begin(), siblings.end());
}

}  // namespace

Topology ReadTopology() {
  const cpu_set_t allowed = Affinity();
  const TopologyPtr topology = Load();
  if (topology == nullptr) return WithoutHwloc(allowed);
  Topology result;
  AddCores(topology.get(), allowed, result);
  if (result.cpus.empty()) result = WithoutHwloc(allowed);
  const int nodes = hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE);
  result.numa_node_count = nodes > 0 ? nodes : 1;
  const hwloc_obj_t package = hwloc_get_obj_by_type(topology.get(), HWLOC_OBJ_PACKAGE, 0);
  const char* model =
      package == nullptr ? nullptr : hwloc_obj_get_info_by_name(package, "CPUModel");
  if (model != nullptr) result.processor = model;
  return result;
}

std::vector<int> CpusNear(int numa_node) {
  std::vector<int> cpus = ReadTopology().cpus;
  const TopologyPtr topology = Load();
  if (numa_node < 0 || topology == nullptr) return cpus;
  const hwloc_obj_t node =
      hwloc_get_numanode_obj_by_os_index(topology.get(), static_cast<unsigned>(numa_node));
  if (node == nullptr) return cpus;
  std::vector<int> near;
  for (const int cpu : cpus) {
    if (hwloc_bitmap_isset(node->cpuset, static_cast<unsigned>(cpu))) near.push_back(cpu);
  }
  return near.empty() ? cpus : near;
}

}  // namespace stoker
