// How many threads compute, and where.
#pragma once

#include "absl/types/span.h"
#include "base/parallel.h"
#include "device/device.h"
#include "device/topology.h"

namespace stoker {

// A worker that shares a physical core with another is the one thing that placing must prevent, so
// threads are pinned when cores have siblings and there are threads for cores only. Otherwise the
// kernel places them as well, and can move them away from a processor that another program keeps
// busy. `threads_asked`: 0: one per physical core.
//
// `near_cpus`: those near the device's memory link. Where they are some of the processors only,
// their cores come first and threads for cores only are pinned too: worker 0, which feeds the
// device, is then near it, and so is the memory that it is the first to touch or to pin.
ThreadTeam::Options TeamOptions(const Topology& topology, int threads_asked,
                                absl::Span<const int> near_cpus = {});

// Of this machine. `device` may be null; how many threads there are does not depend on it.
ThreadTeam::Options TeamOptionsHere(int threads_asked, const Device* device);

}  // namespace stoker
