// Remembers the last two uses of each expert.
#include "cache/policies/second_hit.h"

#include <algorithm>
#include <cmath>

namespace stoker {

std::unique_ptr<AdmissionPolicy> SecondHitAdmission::Make(const PolicyShape& shape,
                                                          absl::Span<const double> values) {
  const double window_uses = values[0] * static_cast<double>(shape.slot_count);
  return std::make_unique<SecondHitAdmission>(shape.key_count,
                                              std::max<int64_t>(1, std::llround(window_uses)));
}

SecondHitAdmission::SecondHitAdmission(ExpertKey key_count, int64_t window_uses)
    : window_uses_(window_uses), uses_(key_count) {}

void SecondHitAdmission::Used(ExpertKey key) {
  uses_[key] = {.last = ++use_count_, .before = uses_[key].last};
}

bool SecondHitAdmission::Admits(ExpertKey incoming, ExpertKey victim) {
  if (victim < 0) return true;
  const Uses& uses = uses_[incoming];
  return uses.before > 0 && uses.last - uses.before <= window_uses_;
}

void SecondHitAdmission::Report(CounterVisitor& visitor) const {
  visitor.Gauge("second_hit_window_uses", static_cast<double>(window_uses_));
}

}  // namespace stoker
