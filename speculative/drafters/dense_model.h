// Drafts with a smaller model of the same vocabulary, which is resident as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "speculative/drafter.h"

namespace stoker {

// Speculative decoding with a draft model (Leviathan et al., 2023; Chen et al., 2023), except that
// nothing is drawn anew when a draft is refused: model and drafter choose with the same noise.
//
// Its attention cache follows each sequence by comparing tokens, so that refused drafts, other
// sequences in the slot and steps without drafts need no word: what differs is forgotten, what is
// missing is computed with the next draft, `rows_max` rows at a time. If more than `window` tokens
// are missing, it begins anew with the last of them; positions are relative, so it may begin
// anywhere.
class DenseModelDrafter final : public Drafter {
 public:
  static constexpr ParameterRow kParameters[] = {
      {.name = "window",
       .value = 64,
       .minimum = 1,
       .maximum = 1 << 20,
       .is_whole = true,
       .reason =
           "tokens that the draft model reads at most when it has not drafted for a while: more "
           "guesses better at first and makes the step that waits longer"},
  };
  static std::unique_ptr<Drafter> Make(DrafterParts parts, absl::Span<const double> values);
  static uint64_t PlanBytes(const DrafterParts& parts, const ModelConfig& target,
                            absl::Span<const double> values);
  DenseModelDrafter(DrafterParts parts, int window);

  // One step of the draft model.
  absl::StatusOr<bool> Draft(absl::Span<DraftJob> jobs) override;
  bool drafts_ahead() const override { return true; }

 private:
  // What the cache of a slot holds: tokens of the sequence from `first` on.
  struct Seen {
    size_t first = 0;
    std::vector<int32_t> tokens;

    size_t end() const { return first + tokens.size(); }
  };
  bool Follow(const DraftJob& job);
  // Adds the rows that the job's next draft needs, as many as fit.
  void AddRows(const DraftJob& job);
  absl::Status Choose(absl::Span<DraftJob> jobs);

  const DrafterParts parts_;
  const size_t window_;
  std::vector<Seen> seen_;     // by slot
  std::vector<StepRow> rows_;  // of a step
  std::vector<float> logits_;  // [slots, vocab]
};

}  // namespace stoker
