// Drafts with the model's own multi-token-prediction layer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "speculative/drafter.h"

namespace stoker {

// DeepSeek-V3's multi-token prediction (arXiv 2412.19437, section 2.2) used for drafting: from the
// model's state at a position and the token behind it, a guess of the token after that. Further
// drafts feed the layer's own state back to it, as vLLM and llama.cpp do.
//
// The layer has an attention cache of its own, which follows the sequence only as far as drafts are
// wanted: states wait, the last kStatesMax of them, until the next draft. If more went by, the
// layer's context begins anew with those that are left; rotary positions are relative, so it may
// begin anywhere. The price is a guess that has seen less. More would be dear: each row that is
// caught up with chooses experts of the layer, which are read and push out others.
//
// Its experts are asked for in the same store as all others.
class MtpDrafter final : public Drafter {
 public:
  static constexpr int kStatesMax = 8;
  static std::unique_ptr<Drafter> Make(DrafterParts parts, absl::Span<const double> values);
  static uint64_t PlanBytes(const DrafterParts& parts, const ModelConfig& target,
                            absl::Span<const double> values);
  explicit MtpDrafter(DrafterParts parts);

  // One step of the layer.
  absl::StatusOr<bool> Draft(absl::Span<DraftJob> jobs) override;
  void OnRows(const VerifiedRows& rows) override;

 private:
  struct Slot {
    int next = -1;    // position of the next state that is to come; -1: nothing came yet
    int certain = 0;  // rows of the cache that are no guess
    int guesses = 0;  // rows behind them that fed drafts back
    int first = 0;    // of the states that wait, a ring of kStatesMax
    int waiting = 0;
    std::vector<int32_t> tokens;  // [kStatesMax], the one behind each state
    std::vector<float> states;    // [kStatesMax, hidden]
    std::vector<float> fed_back;  // [hidden], of the last row
  };
  Slot& slot(int index) { return slots_[static_cast<size_t>(index)]; }
  int Room() const { return parts_.rows_max - static_cast<int>(rows_.size()); }
  void Wait(Slot& slot, int32_t token, const float* state);
  void AddRows(DraftJob& job);
  void AddWaiting(const DraftJob& job, Slot& slot);
  absl::Status Choose(absl::Span<DraftJob> jobs);

  const DrafterParts parts_;
  const size_t hidden_;
  std::vector<Slot> slots_;
  std::vector<MtpRow> rows_;   // of a step
  std::vector<float> normed_;  // [rows, hidden]
  std::vector<float> logits_;  // [slots, vocab]
};

}  // namespace stoker
