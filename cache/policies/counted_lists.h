// Keys in lists by how often they were used, with counts that fade: what frequency policies rank
// by.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cache/policies/key_lists.h"
#include "cache/policy.h"

namespace stoker {

// Each use adds one to the key's count, up to kCountMax; every `uses_per_halving` uses all counts
// are halved, so that old fame fades. Counts outlive the listing: a key that comes back is ranked
// by what it was used, not as a newcomer. All in integers, so a run can be replayed.
//
// Listed keys lie in one list a count, oldest first. Events are O(1); a halving merges lists
// pairwise, O(key_count).
class CountedLists {
 public:
  static constexpr int kCountMax = 255;
  static constexpr int kNoCount = -1;

  // Counts are halved every `uses_per_key` uses times the keys of `shape`.
  CountedLists(const PolicyShape& shape, double uses_per_key);

  void Insert(ExpertKey key, Arrival arrival);  // a demand is a use, a hint is none
  void Use(ExpertKey key);                      // of a listed key
  void Remove(ExpertKey key) {
    lists_.Remove(key);
    NoteEmpty(counts_[key]);
  }

  // The least count >= `count` that listed keys have; kNoCount when there is none.
  int NextCount(int count) const;
  ExpertKey First(int count) const { return lists_.First(count); }
  ExpertKey Next(ExpertKey key) const { return lists_.Next(key); }
  // Events since the key's last one; at least 1.
  int64_t age(ExpertKey key) const { return event_count_ + 1 - last_event_[key]; }
  uint64_t halvings() const { return halvings_; }

 private:
  static constexpr int kWordBits = 64;

  void CountUse(ExpertKey key);
  void Append(ExpertKey key);
  void HalveCounts();
  void MergeByAge(int from, int to);
  void NoteEmpty(int count) {
    if (lists_.First(count) == KeyLists::kNone) {
      is_listed_[count / kWordBits] &= ~(uint64_t{1} << count % kWordBits);
    }
  }

  KeyLists lists_;                                                    // one a count
  std::array<uint64_t, (kCountMax + 1) / kWordBits> is_listed_ = {};  // a bit a count
  std::vector<uint8_t> counts_;                                       // by key, listed or not
  std::vector<int64_t> last_event_;                                   // by key: number of the event
  const int64_t uses_per_halving_;
  int64_t use_count_ = 0;
  int64_t event_count_ = 0;  // uses and hints
  uint64_t halvings_ = 0;
};

}  // namespace stoker
