// Ranked once and for all by how often earlier runs used each expert.
#pragma once

#include <memory>
#include <vector>

#include "cache/policies/key_lists.h"
#include "cache/policy.h"

namespace stoker {

// The victim has the fewest uses in PolicyShape::profile; among equals, such as experts that no
// earlier run used, the oldest use goes.
//
// One list a distinct number of uses and a bit a list that is not empty: events are O(1), a victim
// O(lists / 64).
class StaticProfilePolicy final : public EvictionPolicy {
 public:
  // Requires a profile.
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape, absl::Span<const double>);
  // `rank_of_key`: in [0, rank_count), the lowest goes first.
  StaticProfilePolicy(std::vector<int32_t> rank_of_key, int rank_count);

  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  static constexpr int kWordBits = 64;
  void Append(ExpertKey key);

  std::vector<int32_t> rank_of_key_;
  KeyLists lists_;                   // one a rank, fewest uses first
  std::vector<uint64_t> is_listed_;  // a bit a rank
};

}  // namespace stoker
