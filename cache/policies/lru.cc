// Least recently used: a use moves the key to the back, the victim is the first from the front.
#include "cache/policies/lru.h"

namespace stoker {

void LruPolicy::Inserted(ExpertKey key, Arrival /*arrival*/) { lists_.PushBack(0, key); }

void LruPolicy::Touched(ExpertKey key) {
  lists_.Remove(key);
  lists_.PushBack(0, key);
}

void LruPolicy::Removed(ExpertKey key) { lists_.Remove(key); }

ExpertKey LruPolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  for (ExpertKey key = lists_.First(0); key != KeyLists::kNone; key = lists_.Next(key)) {
    if (evictable(key)) return key;
    ++passed_over_;
  }
  return KeyLists::kNone;
}

void LruPolicy::Report(CounterVisitor& visitor) const {
  visitor.Counter("lru_passed_over", passed_over_);
}

}  // namespace stoker
