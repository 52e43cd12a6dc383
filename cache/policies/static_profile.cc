// Turns a profile into ranks, and keeps residents in lists by rank.
#include "cache/policies/static_profile.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace stoker {

std::unique_ptr<EvictionPolicy> StaticProfilePolicy::Make(const PolicyShape& shape,
                                                          absl::Span<const double>) {
  CHECK(shape.profile.size() == static_cast<size_t>(shape.key_count));
  std::vector<uint32_t> distinct;
  for (const PolicyShape::Layer& layer : shape.layers) {
    const auto uses = shape.profile.subspan(layer.first_key, layer.expert_count);
    distinct.insert(distinct.end(), uses.begin(), uses.end());
  }
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  std::vector<int32_t> rank_of_key(shape.key_count, 0);
  for (ExpertKey key = 0; key < shape.key_count; ++key) {
    const auto at = std::lower_bound(distinct.begin(), distinct.end(), shape.profile[key]);
    rank_of_key[key] = static_cast<int32_t>(at - distinct.begin());
  }
  return std::make_unique<StaticProfilePolicy>(std::move(rank_of_key),
                                               static_cast<int>(distinct.size()));
}

StaticProfilePolicy::StaticProfilePolicy(std::vector<int32_t> rank_of_key, int rank_count)
    : rank_of_key_(std::move(rank_of_key)),
      lists_(static_cast<ExpertKey>(rank_of_key_.size()), rank_count),
      is_listed_(static_cast<size_t>(rank_count) / kWordBits + 1, 0) {}

void StaticProfilePolicy::Append(ExpertKey key) {
  const int32_t rank = rank_of_key_[key];
  lists_.PushBack(rank, key);
  is_listed_[rank / kWordBits] |= uint64_t{1} << rank % kWordBits;
}

void StaticProfilePolicy::Inserted(ExpertKey key, Arrival /*arrival*/) { Append(key); }

void StaticProfilePolicy::Touched(ExpertKey key) {
  Removed(key);
  Append(key);
}

void StaticProfilePolicy::Removed(ExpertKey key) {
  const int32_t rank = rank_of_key_[key];
  lists_.Remove(key);
  if (lists_.First(rank) != KeyLists::kNone) return;
  is_listed_[rank / kWordBits] &= ~(uint64_t{1} << rank % kWordBits);
}

ExpertKey StaticProfilePolicy::PickVictim(ExpertKey /*incoming*/, Evictable evictable) {
  for (size_t word = 0; word < is_listed_.size(); ++word) {
    for (uint64_t bits = is_listed_[word]; bits != 0; bits &= bits - 1) {
      const int rank = static_cast<int>(word) * kWordBits + std::countr_zero(bits);
      for (ExpertKey key = lists_.First(rank); key != KeyLists::kNone; key = lists_.Next(key)) {
        if (evictable(key)) return key;
      }
    }
  }
  return KeyLists::kNone;
}

// Nothing that changes.
void StaticProfilePolicy::Report(CounterVisitor& /*visitor*/) const {}

}  // namespace stoker
