// Remembers nothing and refuses nobody.
#include "cache/policies/always.h"

namespace stoker {

std::unique_ptr<AdmissionPolicy> AlwaysAdmission::Make(const PolicyShape&,
                                                       absl::Span<const double>) {
  return std::make_unique<AlwaysAdmission>();
}
void AlwaysAdmission::Used(ExpertKey /*key*/) {}
bool AlwaysAdmission::Admits(ExpertKey /*incoming*/, ExpertKey /*victim*/) { return true; }
void AlwaysAdmission::Report(CounterVisitor& /*visitor*/) const {}

}  // namespace stoker
