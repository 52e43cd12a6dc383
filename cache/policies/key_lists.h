// Doubly linked lists of keys in two flat arrays: what an eviction policy keeps its order in.
#pragma once

#include <vector>

#include "base/check.h"
#include "cache/policy.h"

namespace stoker {

// `list_count` lists over the keys [0, key_count); a key is in at most one of them. Every operation
// is O(1) and allocates nothing. Each list is a ring through a sentinel node of its own, so that
// neither end is a special case.
class KeyLists {
 public:
  static constexpr ExpertKey kNone = -1;

  KeyLists(ExpertKey key_count, int list_count)
      : key_count_(key_count),
        next_(static_cast<size_t>(key_count) + list_count, kNone),
        previous_(static_cast<size_t>(key_count) + list_count, kNone) {
    for (int list = 0; list < list_count; ++list) Empty(list);
  }

  bool Contains(ExpertKey key) const { return next_[key] != kNone; }
  // The first key of a list, its last, and the one after `key`; -1 at the end.
  ExpertKey First(int list) const { return KeyOrNone(next_[key_count_ + list]); }
  ExpertKey Last(int list) const { return KeyOrNone(previous_[key_count_ + list]); }
  ExpertKey Next(ExpertKey key) const { return KeyOrNone(next_[key]); }

  void PushBack(int list, ExpertKey key) { Link(key, key_count_ + list); }
  // `before` is in a list; `key` in none.
  void InsertBefore(ExpertKey before, ExpertKey key) {
    CHECK(Contains(before));
    Link(key, before);
  }
  void Remove(ExpertKey key) {
    CHECK(Contains(key));
    next_[previous_[key]] = next_[key];
    previous_[next_[key]] = previous_[key];
    next_[key] = kNone;
  }
  // Moves all keys of `from`, in their order, to `to`, which must be empty.
  void MoveAll(int from, int to) {
    CHECK(First(to) == kNone);
    if (First(from) == kNone) return;
    const ExpertKey source = key_count_ + from;
    const ExpertKey target = key_count_ + to;
    next_[target] = next_[source];
    previous_[target] = previous_[source];
    previous_[next_[target]] = target;
    next_[previous_[target]] = target;
    Empty(from);
  }

 private:
  void Link(ExpertKey key, ExpertKey before) {
    CHECK(!Contains(key));
    next_[previous_[before]] = key;
    previous_[key] = previous_[before];
    next_[key] = before;
    previous_[before] = key;
  }
  void Empty(int list) {
    next_[key_count_ + list] = previous_[key_count_ + list] = key_count_ + list;
  }
  ExpertKey KeyOrNone(ExpertKey node) const { return node < key_count_ ? node : kNone; }

  ExpertKey key_count_;
  std::vector<ExpertKey> next_;      // by node: keys, then sentinels; kNone: in no list
  std::vector<ExpertKey> previous_;  // meaningful where next_ is
};

}  // namespace stoker
