// Replays a trace over a pool of bytes: no slots, no size classes, no floors.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "cache/policy.h"
#include "runtime/simulation/replay.h"
#include "runtime/simulation/timing_model.h"
#include "runtime/simulation/use_stream.h"

namespace stoker {

struct PoolOptions {
  uint64_t budget_bytes = 0;
  bool cold_per_prompt = false;
  absl::Span<const uint32_t> profile;  // as PolicyShape
};

// One policy object over all experts. Experts are touched in the order of the stream. A miss goes
// in at once, evicting until the budget holds it; one that is not admitted is read and gone. What
// the rows of a step use of the running layer is not evicted, by whichever of them, as far as the
// budget goes; what the running row still uses never is, and rather the budget exceeded. This is
// what other programs with a cache of experts do, so their traces are judged by it.
//
// A run of its own objects; several may run on several threads.
ReplayResult ReplayPool(const UseStream& stream, const PolicyChoice& policy,
                        const AdmissionChoice& admission, const PoolOptions& options,
                        const TimingModel& timing);

// The offline optimum over the same pool: evicts what is used again last, or never. Where sizes
// differ it is the greedy that others publish, near the optimum and no bound. `may_bypass`: one
// that is used again later than all residents is not kept at all, which is the optimum to compare
// admission policies with.
ReplayResult ReplayBelady(const UseStream& stream, bool may_bypass, const PoolOptions& options,
                          const TimingModel& timing);

}  // namespace stoker
