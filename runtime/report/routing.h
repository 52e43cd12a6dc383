// What the routers of a recorded run chose: how evenly, how soon again, and whether a layer has
// collapsed onto few experts.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/trace/trace.h"

namespace stoker {

// A layer has collapsed when its uses are spread over fewer effective experts than its top-k and a
// tenth of the others: a router that splits evenly reaches all of them, one that always takes the
// same reaches its top-k. With fewer uses than kCollapseUses an expert it is too early to tell.
inline constexpr double kCollapseShare = 0.1;
inline constexpr int64_t kCollapseUses = 4;

// One layer. A use is one expert that one row chose; prompt rows and decode rows count alike.
struct LayerRouting {
  int layer = 0;  // transformer layer
  int expert_count = 0;
  int top_k = 0;
  int64_t use_count = 0;
  std::vector<int64_t> uses;  // by expert
  // Of the distribution of uses over experts, in bits; and by log2(expert_count), so that 1 is an
  // even split whatever the number of experts. An estimate from few uses comes out low.
  double entropy_bits = 0;
  double entropy = 0;
  double effective_experts = 0;  // 2^entropy_bits
  int half_experts = 0;          // the fewest experts that take half of the uses
  int unused_experts = 0;
  bool has_collapsed = false;
  // Reuse distance: how many other experts of the layer were used since the last use of this one.
  // A least-recently-used store with room for more than that many experts of this layer would have
  // had it. Uses by distance, [expert_count]; first uses have none.
  std::vector<int64_t> reuses;
  int64_t first_uses = 0;
  int reuse_p50 = 0, reuse_p90 = 0;  // over the uses that have a distance
};

struct Routing {
  int64_t row_count = 0;
  std::vector<LayerRouting> layers;
  // Share of uses (first ones included) whose reuse distance is below each hundredth of the layer's
  // experts: what such a store would hit by room, [101]. Part of an expert counts in proportion.
  std::vector<double> hit_by_room;
};

Routing AnalyzeRouting(const Trace& trace);

}  // namespace stoker
