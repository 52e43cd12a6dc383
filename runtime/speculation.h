// Speculative decoding as the engine steps: who drafts, how many drafts a step checks, and what
// came of it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/time_ledger.h"
#include "prefetch/prefetcher.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"
#include "runtime/sequence.h"
#include "speculative/drafter.h"
#include "speculative/governor.h"
#include "speculative/shadow_cache.h"

namespace stoker {

// A step that checks drafts computes a row for each of them; the token that the sampler gives at a
// row is the one that it would have given without drafts, because rows do not depend on each other
// and noise is keyed by position. As long as that token is the draft in the next row, that row's
// logits are the next token's. So drafts change how many tokens a step gives, never which.
//
// Drafts are also told to the prefetcher, if it wants them: which token the next step will begin
// with. For that a drafter that takes no time drafts one token more than is checked, and also where
// none is; one that takes time is not asked for more.
//
// One thread. A drafter that fails is not asked again: the run goes on without, and status() says
// why.
class Speculation final : public TokenChooser {
 public:
  struct Parts {
    std::string name;  // of the drafter, as the user gave it
    Governor::Options governor;
    const Clock* clock = nullptr;
    TimeLedger* ledger = nullptr;
    int vocab_count = 0;
    int context = 0;
    Prefetcher* prefetcher = nullptr;  // must outlive this object, as must the next; may be null
    ShadowCache* shadow = nullptr;     // told of every step; null where all experts are resident
  };
  explicit Speculation(const Parts& parts);
  // Once, before the first step. The drafter chooses tokens through this object.
  void Take(std::unique_ptr<Drafter> drafter) { drafter_ = std::move(drafter); }
  // Without drafter, governor and sampler.
  static uint64_t PlanBytes(int sequence_count);

  // A decoding sequence of the next step. `check`, out: how many of its drafts the step is to
  // check.
  struct Item {
    Sequence* sequence = nullptr;
    int slot = 0;
    int check = 0;
  };
  void Draft(absl::Span<Item> items);

  // While a step waits for so many experts: one step of the drafter, on top of the drafts that are
  // being checked, if one is wanted and likely to fit into the wait. Whether it did anything.
  bool DraftAhead(int outstanding);
  bool DraftsAhead() const { return !ahead_.empty(); }

  // A sequence has its tokens of a step, which checked so many drafts, of which the first `right`
  // were right. `drafts_before`: those that it had.
  struct Outcome {
    const Sequence* sequence = nullptr;
    int slot = 0;
    int checked = 0;
    int right = 0;
    int drafts_before = 0;
    int first_row = -1;  // of the step; below 0: a prompt's
  };
  void OnTokens(const Outcome& outcome);
  void OnRows(const VerifiedRows& rows) {
    if (is_working()) drafter_->OnRows(rows);
  }
  // Ends the step that `record` is of, and fills in what it says of speculation. `draft_misses`:
  // those of its misses that Draft caused.
  void EndStep(uint64_t draft_misses, StepRecord& record);

  absl::StatusOr<int32_t> Choose(int slot, absl::Span<float> logits,
                                 absl::Span<const int32_t> history) override;

  const absl::Status& status() const { return status_; }
  DraftTotals totals() const;
  void Report(CounterVisitor& visitor) const;

 private:
  struct Slot {
    SequenceId id = 0;
    Sequence* sequence = nullptr;
    int heard = 0;  // right ones of the drafts that are not checked
    bool is_listening = false;
  };
  bool is_working() const { return status_.ok(); }
  bool is_sensed() const {
    return parts_.prefetcher != nullptr && parts_.prefetcher->wants_drafts();
  }
  void AddAhead(const Item& item);
  void AddJob(const Item& item, const Governor::Candidate& candidate);
  void RunJobs();
  void TellPrefetcher(int slot, int checked);

  const Parts parts_;
  Governor governor_;
  Sampler sampler_;
  std::unique_ptr<Drafter> drafter_;
  std::vector<Slot> slots_;
  std::vector<Governor::Candidate> candidates_;
  std::vector<DraftJob> jobs_;
  std::vector<DraftJob> ahead_;           // of the running step
  std::vector<DraftCost::Round> rounds_;  // of drafts before the step
  int64_t draft_ns_ = 0;                  // which took so long
  int64_t ahead_ns_ = 0;                  // drafting within the step
  int undrafted_missing_ = 0;             // of the running step, by the shadow
  absl::Status status_;
  DraftTotals totals_;
};

}  // namespace stoker
