// The policy seam: which resident expert gives way.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"

namespace stoker {

// An expert's index in the catalog, [0, expert_count): layers in order, experts within.
using ExpertKey = int32_t;

// Sees every residency event of one size class of one tier, in order, on one thread; needs no locks
// and no clock, so a run can be replayed. It neither pins nor reads: it ranks. All memory is taken
// at construction.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  virtual void Inserted(ExpertKey key) = 0;  // was not resident; is now (or is being loaded)
  virtual void Touched(ExpertKey key) = 0;   // a step uses a resident expert
  virtual void Removed(ExpertKey key) = 0;   // left, as victim or because its load failed
  // The resident key to evict: the first in the policy's order for which `evictable` holds, or -1
  // when none is. Changes nothing; Removed follows if it is taken.
  virtual ExpertKey PickVictim(absl::FunctionRef<bool(ExpertKey)> evictable) = 0;
  virtual void Report(CounterVisitor& visitor) const = 0;
};

struct PolicyRow {
  std::string_view name;
  std::string_view description;
  std::unique_ptr<EvictionPolicy> (*make)(ExpertKey key_count);
};
// In policies/registry.cc, in order.
absl::Span<const PolicyRow> Policies();
// InvalidArgument listing the known names.
absl::StatusOr<const PolicyRow*> FindPolicy(std::string_view name);

}  // namespace stoker
