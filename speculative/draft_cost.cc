// Two curves.
#include "speculative/draft_cost.h"

#include <algorithm>

namespace stoker {
namespace {

void Observe(StepCost& cost, const DraftCost::Round& round) {
  cost.Observe({.rows = round.sequences, .compute_ns = static_cast<double>(round.ns)});
}

}  // namespace

void DraftCost::ObserveStep(absl::Span<const Round> rounds, bool has_joined) {
  const bool catches_up = !was_asked_ || has_joined;
  if (!rounds.empty() && (!catches_up || !IsKnown())) Observe(first_, rounds[0]);
  for (size_t i = 1; i < rounds.size(); ++i) Observe(later_, rounds[i]);
  was_asked_ = !rounds.empty();
  if (was_asked_) steps_ = std::min(steps_ + 1, kStepsMin);
}

double DraftCost::RoundNs(int round, int sequences) const {
  if (sequences == 0) return 0;
  const double later_ns = round > 0 ? later_.Ns(sequences) : 0;
  return later_ns > 0 ? later_ns : first_.Ns(sequences);
}

}  // namespace stoker
