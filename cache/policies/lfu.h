// Least frequently used, with counts that fade.
#pragma once

#include <memory>

#include "cache/policies/counted_lists.h"
#include "cache/policy.h"

namespace stoker {

// The victim has the lowest count of CountedLists, among equals the oldest use.
class LfuPolicy final : public EvictionPolicy {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "uses_per_key",
       .value = 2,
       .minimum = 0.125,
       .maximum = 64,
       .reason = "counts are halved every so many uses times the experts; larger remembers longer, "
                 "and 1 to 8 were within a point of the best on recorded routings"},
  };
  static std::unique_ptr<EvictionPolicy> Make(const PolicyShape& shape,
                                              absl::Span<const double> values) {
    return std::make_unique<LfuPolicy>(shape, values[0]);
  }
  LfuPolicy(const PolicyShape& shape, double uses_per_key) : lists_(shape, uses_per_key) {}

  void Inserted(ExpertKey key, Arrival arrival) override { lists_.Insert(key, arrival); }
  void Touched(ExpertKey key) override { lists_.Use(key); }
  void Removed(ExpertKey key) override { lists_.Remove(key); }
  ExpertKey PickVictim(ExpertKey incoming, Evictable evictable) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  CountedLists lists_;
};

}  // namespace stoker
