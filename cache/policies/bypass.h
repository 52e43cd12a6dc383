// Under pressure admits only what is used more than what would have to go for it.
#pragma once

#include <memory>
#include <vector>

#include "cache/policy.h"

namespace stoker {

// As TinyLFU (Einziger et al., ACM TOS 2017), with exact counts instead of a sketch, for there are
// thousands of experts and not millions. Counts rise to kCountMax and are halved together.
class BypassAdmission final : public AdmissionPolicy {
 public:
  static constexpr int kCountMax = 255;
  static constexpr ParameterRow kParameters[] = {
      {.name = "uses_per_key",
       .value = 2,
       .minimum = 0.125,
       .maximum = 64,
       .reason = "counts are halved every so many uses times the experts; larger remembers longer"},
  };
  static std::unique_ptr<AdmissionPolicy> Make(const PolicyShape& shape,
                                               absl::Span<const double> values);
  BypassAdmission(ExpertKey key_count, int64_t uses_per_halving);

  void Used(ExpertKey key) override;
  bool Admits(ExpertKey incoming, ExpertKey victim) override;
  void Report(CounterVisitor& visitor) const override;

 private:
  std::vector<uint8_t> counts_;  // by key
  const int64_t uses_per_halving_;
  int64_t use_count_ = 0;
};

}  // namespace stoker
