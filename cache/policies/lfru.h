// Recency times frequency: between lru and lfu.
#pragma once

#include <memory>

#include "cache/policies/counted_lists.h"
#include "cache/policy.h"

namespace stoker {

// The victim has the least count / age: the fading count of CountedLists over the events since its
// last use. Of the keys of one count the oldest has the least, so one key a count is compared:
// O(counts in use) a victim.
class LfruPolicy final : public EvictionPolicy {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "uses_per_key",
       .value = 8,
       .minimum = 0.125,
       .maximum = 64,
       .reason = "counts are halved every so many uses times the experts; larger remembers longer. "
                 "Age tempers old fame already, so a longer memory than lfu's gave more hits on "
                 "recorded routings"},
  };
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape,
                                              absl::Span<const double> values) {
    return std::make_unique<LfruPolicy>(shape, values[0]);
  }
  LfruPolicy(const PolicyShape& shape, double uses_per_key) : lists_(shape, uses_per_key) {}

  void Inserted(ExpertKey key, Arrival arrival) override { lists_.Insert(key, arrival); }
  void Touched(ExpertKey key) override { lists_.Use(key); }
  void Removed(ExpertKey key) override { lists_.Remove(key); }
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  CountedLists lists_;
};

}  // namespace stoker
