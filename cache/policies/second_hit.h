// Admits an expert that was used before, not too long ago.
#pragma once

#include <memory>
#include <vector>

#include "cache/policy.h"

namespace stoker {

// While there is room everything is admitted. Then an expert is once its last use before this one
// is at most a window of uses back, whoever would have to go: experts used once in a while pass by.
class SecondHitAdmission final : public AdmissionPolicy {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "window_per_slot",
       .value = 4,
       .minimum = 0.25,
       .maximum = 256,
       .reason = "uses, in slots, within which an expert must have been used before; larger admits "
                 "more"},
  };
  static std::unique_ptr<AdmissionPolicy> Make(const PolicyShape& shape,
                                               absl::Span<const double> values);
  SecondHitAdmission(ExpertKey key_count, int64_t window_uses);

  void Used(ExpertKey key) override;
  bool Admits(ExpertKey incoming, ExpertKey victim) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  struct Uses {
    int64_t last = 0;  // number of the use; 0: none
    int64_t before = 0;
  };
  const int64_t window_uses_;
  std::vector<Uses> uses_;  // by key
  int64_t use_count_ = 0;
};

}  // namespace stoker
