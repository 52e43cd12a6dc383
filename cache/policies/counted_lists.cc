// Counts, lists by count, and their halving.
#include "cache/policies/counted_lists.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace stoker {
namespace {

int64_t KeysOf(const PolicyShape& shape) {
  int64_t count = 0;
  for (const PolicyShape::Layer& layer : shape.layers) count += layer.expert_count;
  return std::max<int64_t>(count, 1);
}

}  // namespace

CountedLists::CountedLists(const PolicyShape& shape, double uses_per_key)
    : lists_(shape.key_count, kCountMax + 1),
      counts_(shape.key_count, 0),
      last_event_(shape.key_count, 0),
      uses_per_halving_(
          std::max<int64_t>(1, std::llround(uses_per_key * static_cast<double>(KeysOf(shape))))) {}

void CountedLists::Insert(ExpertKey key, Arrival arrival) {
  if (arrival == Arrival::kDemand) CountUse(key);
  Append(key);
}

void CountedLists::Use(ExpertKey key) {
  Remove(key);
  CountUse(key);
  Append(key);
}

int CountedLists::NextCount(int count) const {
  while (count <= kCountMax) {
    const uint64_t word = is_listed_[count / kWordBits] >> count % kWordBits;
    if (word != 0) return count + std::countr_zero(word);
    count = (count / kWordBits + 1) * kWordBits;
  }
  return kNoCount;
}

void CountedLists::CountUse(ExpertKey key) {
  if (use_count_ > 0 && use_count_ % uses_per_halving_ == 0) HalveCounts();
  ++use_count_;
  if (counts_[key] < kCountMax) ++counts_[key];
}

void CountedLists::Append(ExpertKey key) {
  last_event_[key] = ++event_count_;
  const int count = counts_[key];
  lists_.PushBack(count, key);
  is_listed_[count / kWordBits] |= uint64_t{1} << count % kWordBits;
}

void CountedLists::HalveCounts() {
  // Ascending, so that list `count` has gone to count / 2 before it is filled.
  for (int count = 0; count <= kCountMax / 2; ++count) {
    MergeByAge(2 * count + 1, 2 * count);
    if (count > 0) lists_.MoveAll(2 * count, count);
  }
  is_listed_ = {};
  for (int count = 0; count <= kCountMax; ++count) {
    if (lists_.First(count) == KeyLists::kNone) continue;
    is_listed_[count / kWordBits] |= uint64_t{1} << count % kWordBits;
  }
  for (uint8_t& count : counts_) count /= 2;
  ++halvings_;
}

// Moves the keys of `from` into `to`; both are, and `to` stays, oldest first.
void CountedLists::MergeByAge(int from, int to) {
  ExpertKey place = lists_.First(to);
  for (ExpertKey key = lists_.First(from); key != KeyLists::kNone; key = lists_.First(from)) {
    lists_.Remove(key);
    while (place != KeyLists::kNone && last_event_[place] < last_event_[key]) {
      place = lists_.Next(place);
    }
    if (place == KeyLists::kNone) {
      lists_.PushBack(to, key);
    } else {
      lists_.InsertBefore(place, key);
    }
  }
}

}  // namespace stoker
