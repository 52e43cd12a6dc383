// Least frequently used: the first that may go, from the lowest count up.
#include "cache/policies/lfu.h"

namespace stoker {

ExpertKey LfuPolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  for (int count = lists_.NextCount(0); count != CountedLists::kNoCount;
       count = lists_.NextCount(count + 1)) {
    for (ExpertKey key = lists_.First(count); key != KeyLists::kNone; key = lists_.Next(key)) {
      if (evictable(key)) return key;
    }
  }
  return KeyLists::kNone;
}

void LfuPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("lfu_halvings", lists_.halvings());
}

}  // namespace stoker
