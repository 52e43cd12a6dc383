// What drafting takes, by how many sequences want a draft.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "speculative/step_cost.h"

namespace stoker {

// A drafter drafts in rounds: one token for each sequence that wants one. The first round of a step
// also has to catch up with the tokens that the step before gave, so it is a curve of its own. One
// after a pause, or with a sequence that has joined, catches up with much more, which says nothing
// of those that follow: it counts only while little else is known.
class DraftCost {
 public:
  explicit DraftCost(int sequence_count) : first_(sequence_count, 0), later_(sequence_count, 0) {}
  static uint64_t PlanBytes(int sequence_count) { return 2 * StepCost::PlanBytes(sequence_count); }

  struct Round {
    int sequences = 0;
    int64_t ns = 0;
  };
  // The rounds of a step; none, if the drafter was not asked. `has_joined`: a sequence has, since
  // the step before.
  void ObserveStep(absl::Span<const Round> rounds, bool has_joined);
  // Whether enough was seen for RoundNs to be believed.
  bool IsKnown() const { return steps_ >= kStepsMin; }
  // Of the round, from 0, of a step; 0: nothing is known, or no sequences.
  double RoundNs(int round, int sequences) const;

 private:
  static constexpr int kStepsMin = 3;

  StepCost first_;
  StepCost later_;
  int steps_ = 0;  // seen, up to kStepsMin
  bool was_asked_ = false;
};

}  // namespace stoker
