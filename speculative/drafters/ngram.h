// Drafts by looking up what followed the last tokens before: it has no weights.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "speculative/drafter.h"

namespace stoker {

// Prompt lookup (Saxena, 2023; Yang et al., "Inference with Reference", 2023): the last n tokens,
// n from the longest to the shortest allowed, are looked for in the sequence; the tokens that
// followed their latest earlier occurrence are the draft. A draft may run into itself, so loops are
// continued as far as is wanted.
//
// Finding takes one look a length: each slot keeps a table of the latest position by a hash of the
// n tokens that end there. A hit is compared with the tokens themselves. What falls on the same
// place in the table is forgotten, never confused.
class NgramDrafter final : public Drafter {
 public:
  static constexpr int kLengthMax = 8;
  static constexpr ParameterRow kParameters[] = {
      {.name = "longest",
       .value = 4,
       .minimum = 1,
       .maximum = kLengthMax,
       .is_whole = true,
       .reason = "tokens that must match, tried first: more are rarer and surer"},
      {.name = "shortest",
       .value = 2,
       .minimum = 1,
       .maximum = kLengthMax,
       .is_whole = true,
       .reason = "tokens that are enough: with one, drafts are many and mostly wrong"},
  };
  static std::unique_ptr<Drafter> Make(DrafterParts parts, absl::Span<const double> values);
  static uint64_t PlanBytes(const DrafterParts& parts, const ModelConfig& target,
                            absl::Span<const double> values);
  NgramDrafter(const DrafterParts& parts, int longest, int shortest);

  absl::StatusOr<bool> Draft(absl::Span<DraftJob> jobs) override;

 private:
  struct Slot {
    std::vector<int32_t> tokens;  // as far as they are in the table
    std::vector<int32_t> ends;    // by hash: position behind the latest n-gram; 0: none
  };
  void Follow(Slot& slot, absl::Span<const int32_t> known);
  // Position behind the latest earlier occurrence of the last tokens; 0: there is none.
  int Find(const Slot& slot, absl::Span<const int32_t> history) const;
  size_t Place(absl::Span<const int32_t> ngram) const;

  const int longest_;
  const int shortest_;
  size_t mask_;
  std::vector<Slot> slots_;
};

}  // namespace stoker
