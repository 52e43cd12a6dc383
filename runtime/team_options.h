// How many threads compute, and where.
#pragma once

#include "base/parallel.h"
#include "device/topology.h"

namespace stoker {

// A worker that shares a physical core with another is the one thing that placing must prevent, so
// threads are pinned when cores have siblings and there are threads for cores only. Otherwise the
// kernel places them as well, and can move them away from a processor that another program keeps
// busy. `threads_asked`: 0: one per physical core.
ThreadTeam::Options TeamOptions(const Topology& topology, int threads_asked);

}  // namespace stoker
