// What a cache under some policy would hold now, without holding it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "cache/layer_rounds.h"
#include "cache/policies/layer_index.h"
#include "cache/policy.h"

namespace stoker {

// Distinct keys of one layer that a step uses at once.
struct GhostRequest {
  absl::Span<const ExpertKey> keys;
  absl::Span<const uint8_t> is_member;  // by key
  int layer = 0;
};

// Plays requests on a policy object of its own, with the slots, the quotas and the floor of the
// real cache, which bind as they do there. It is one of several over the same keys: who holds a key
// is one word, a bit a ghost, so that one look tells which of them hit.
class GhostCache {
 public:
  static constexpr int kGhostsMax = 32;
  using Holders = std::vector<uint32_t>;  // by key

  // `index`: of its bit. `layers` must outlive it.
  GhostCache(const PolicyChoice& choice, const PolicyShape& shape, const LayerIndex& layers,
             int index);

  bool Holds(const Holders& holders, ExpertKey key) const { return (holders[key] & bit_) != 0; }
  // How many of the keys it held. None of them gives way to another as long as there are others.
  int Play(const GhostRequest& request, Holders& holders);
  // What it gave up for the request that it played last.
  absl::Span<const ExpertKey> gave_up() const { return gave_up_; }
  // Who would go for `incoming` next, of those that may.
  ExpertKey Pick(ExpertKey incoming, Evictable evictable) const;

 private:
  void MakeRoom(ExpertKey incoming, const GhostRequest& request, Holders& holders);

  std::unique_ptr<EvictionPolicy> policy_;
  const LayerIndex* layers_;
  const uint32_t bit_;
  const int64_t slot_count_;
  const int layer_floor_;
  LayerRounds rounds_;
  const bool quotas_bind_requests_;
  int64_t resident_count_ = 0;
  std::vector<int32_t> layer_counts_;  // residents by layer
  std::vector<ExpertKey> gave_up_;
};

}  // namespace stoker
