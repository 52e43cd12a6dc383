// Least frequently used, with counts that fade.
#pragma once

#include <memory>
#include <vector>

#include "cache/policies/key_lists.h"
#include "cache/policy.h"

namespace stoker {

// Each use adds one to the key's count, up to kCountMax; every kUsesPerKey * key_count uses all
// counts are halved, so that old fame fades. Counts outlive eviction: a key that comes back is
// ranked by what it was used, not as a newcomer. The victim has the lowest count, among equals the
// oldest use. All in integers, so a run can be replayed.
//
// Resident keys lie in one list a count, oldest use first. Events are O(1); a halving merges lists
// pairwise, O(key_count), hence O(1 / kUsesPerKey) a use.
class LfuPolicy final : public EvictionPolicy {
 public:
  static constexpr int kCountMax = 255;
  static constexpr int64_t kUsesPerKey = 2;  // of 1 to 16 the best on recorded routings, by a point

  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape, absl::Span<const double>) {
    return std::make_unique<LfuPolicy>(shape.key_count);
  }
  explicit LfuPolicy(ExpertKey key_count);

  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  void CountUse(ExpertKey key);
  void HalveCounts();
  void MergeByLastUse(int from, int to);

  KeyLists lists_;                 // one a count
  std::vector<uint8_t> counts_;    // by key, resident or not
  std::vector<int64_t> last_use_;  // by key: number of the use
  const int64_t uses_per_halving_;
  int64_t use_count_ = 0;
  uint64_t halvings_ = 0;
};

}  // namespace stoker
