// Groups of experts with many pairs: products in tiles, one launch after the other.
#pragma once

#include "kernels/device_args.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// Whether a group is computed in tiles: when its experts have more pairs, in the mean, than a walk
// takes at once, and its weights are of formats that have tiles.
bool IsForTiles(const ExpertGroupArgs& args);

// ExpertGroup for such a group. The counters stay as they are. How many blocks are launched follows
// from pair_total and task_count, not from which expert has how many.
int ExpertGroupTiles(const ExpertGroupArgs& args, void* native_stream);

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
