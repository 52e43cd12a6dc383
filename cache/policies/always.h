// Admits everything: the plain rule that every other must beat.
#pragma once

#include <memory>

#include "cache/policy.h"

namespace stoker {

class AlwaysAdmission final : public AdmissionPolicy {
 public:
  static std::unique_ptr<AdmissionPolicy> Make(const PolicyShape&, absl::Span<const double>);

  void Used(ExpertKey key) override;
  bool Admits(ExpertKey incoming, ExpertKey victim) override;
  void Report(CounterVisitor& visitor) const override;
};

}  // namespace stoker
