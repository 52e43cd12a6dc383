// Least recently used: the plain policy that every other must beat.
#pragma once

#include <memory>

#include "cache/policies/key_lists.h"
#include "cache/policy.h"

namespace stoker {

// One list, oldest use first. Every event is O(1); PickVictim passes over what may not go.
class LruPolicy final : public EvictionPolicy {
 public:
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape, absl::Span<const double>) {
    return std::make_unique<LruPolicy>(shape.key_count);
  }
  explicit LruPolicy(ExpertKey key_count) : lists_(key_count, 1) {}

  void Inserted(ExpertKey key, Arrival arrival) override;
  void Touched(ExpertKey key) override;
  void Removed(ExpertKey key) override;
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  KeyLists lists_;
  uint64_t passed_over_ = 0;  // keys that came first in order and could not go
};

}  // namespace stoker
