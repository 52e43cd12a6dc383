// Least frequently used, with counts that fade: lists by count, merged pairwise when counts halve.
#include "cache/policies/lfu.h"

#include <algorithm>

namespace stoker {

LfuPolicy::LfuPolicy(ExpertKey key_count)
    : lists_(key_count, kCountMax + 1),
      counts_(key_count, 0),
      last_use_(key_count, 0),
      uses_per_halving_(kUsesPerKey * std::max<int64_t>(key_count, 1)) {}

void LfuPolicy::Inserted(ExpertKey key, Arrival /*arrival*/) {
  CountUse(key);
  lists_.PushBack(counts_[key], key);
}

void LfuPolicy::Touched(ExpertKey key) {
  lists_.Remove(key);
  CountUse(key);
  lists_.PushBack(counts_[key], key);
}

void LfuPolicy::Removed(ExpertKey key) { lists_.Remove(key); }

ExpertKey LfuPolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  for (int count = 0; count <= kCountMax; ++count) {
    for (ExpertKey key = lists_.First(count); key != KeyLists::kNone; key = lists_.Next(key)) {
      if (evictable(key)) return key;
    }
  }
  return KeyLists::kNone;
}

void LfuPolicy::CountUse(ExpertKey key) {
  if (use_count_ > 0 && use_count_ % uses_per_halving_ == 0) HalveCounts();
  last_use_[key] = ++use_count_;
  if (counts_[key] < kCountMax) ++counts_[key];
}

void LfuPolicy::HalveCounts() {
  // Ascending, so that list `count` has gone to count / 2 before it is filled.
  for (int count = 0; count <= kCountMax / 2; ++count) {
    MergeByLastUse(2 * count + 1, 2 * count);
    if (count > 0) lists_.MoveAll(2 * count, count);
  }
  for (uint8_t& count : counts_) count /= 2;
  ++halvings_;
}

// Moves the keys of `from` into `to`; both are, and `to` stays, ordered by last use.
void LfuPolicy::MergeByLastUse(int from, int to) {
  ExpertKey place = lists_.First(to);
  for (ExpertKey key = lists_.First(from); key != KeyLists::kNone; key = lists_.First(from)) {
    lists_.Remove(key);
    while (place != KeyLists::kNone && last_use_[place] < last_use_[key]) {
      place = lists_.Next(place);
    }
    if (place == KeyLists::kNone) {
      lists_.PushBack(to, key);
    } else {
      lists_.InsertBefore(place, key);
    }
  }
}

void LfuPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("lfu_halvings", halvings_);
}

}  // namespace stoker
