// Recency times frequency: compares the oldest of each count.
#include "cache/policies/lfru.h"

namespace stoker {

ExpertKey LfruPolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  ExpertKey best = KeyLists::kNone;
  int64_t best_count = 0;
  int64_t best_age = 0;
  for (int count = lists_.NextCount(0); count != CountedLists::kNoCount;
       count = lists_.NextCount(count + 1)) {
    for (ExpertKey key = lists_.First(count); key != KeyLists::kNone; key = lists_.Next(key)) {
      const int64_t age = lists_.age(key);
      // count / age < best_count / best_age; what follows in this list is younger still.
      if (best != KeyLists::kNone && count * best_age >= best_count * age) break;
      if (!evictable(key)) continue;
      best = key;
      best_count = count;
      best_age = age;
      break;
    }
    if (best != KeyLists::kNone && best_count == 0) break;  // none is less
  }
  return best;
}

void LfruPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("lfru_halvings", lists_.halvings());
}

}  // namespace stoker
