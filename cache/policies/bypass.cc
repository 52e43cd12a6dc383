// Compares fading counts of newcomer and victim.
#include "cache/policies/bypass.h"

#include <algorithm>
#include <cmath>

namespace stoker {

std::unique_ptr<AdmissionPolicy> BypassAdmission::Make(const PolicyShape& shape,
                                                       absl::Span<const double> values) {
  int64_t expert_count = 0;
  for (const PolicyShape::Layer& layer : shape.layers) expert_count += layer.expert_count;
  const double uses = values[0] * static_cast<double>(expert_count);
  return std::make_unique<BypassAdmission>(shape.key_count,
                                           std::max<int64_t>(1, std::llround(uses)));
}

BypassAdmission::BypassAdmission(ExpertKey key_count, int64_t uses_per_halving)
    : counts_(key_count, 0), uses_per_halving_(uses_per_halving) {}

void BypassAdmission::Used(ExpertKey key) {
  if (counts_[key] < kCountMax) ++counts_[key];
  if (++use_count_ % uses_per_halving_ != 0) return;
  for (uint8_t& count : counts_) count /= 2;
}

bool BypassAdmission::Admits(ExpertKey incoming, ExpertKey victim) {
  return victim < 0 || counts_[incoming] > counts_[victim];
}

void BypassAdmission::Report(CounterVisitor& visitor) const {
  visitor.Counter("bypass_halvings", static_cast<uint64_t>(use_count_ / uses_per_halving_));
}

}  // namespace stoker
