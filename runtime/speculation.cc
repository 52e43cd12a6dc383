// Drafts before a step, the verdicts after it, and the sums.
#include "runtime/speculation.h"

#include <algorithm>

#include "base/status.h"

namespace stoker {

Speculation::Speculation(const Parts& parts)
    : parts_(parts),
      governor_(parts.governor),
      sampler_(parts.vocab_count, parts.context + 1),
      slots_(static_cast<size_t>(parts.governor.sequence_count)) {
  candidates_.reserve(slots_.size());
  jobs_.reserve(slots_.size());
  ahead_.reserve(slots_.size());
  rounds_.reserve(kDraftLengthMax + 1);
  totals_.drafter = parts.name;
}

uint64_t Speculation::PlanBytes(int sequence_count) {
  return sizeof(Speculation) + (kDraftLengthMax + 1) * sizeof(DraftCost::Round) +
         static_cast<uint64_t>(sequence_count) *
             (sizeof(Slot) + sizeof(Governor::Candidate) + 2 * sizeof(DraftJob));
}

void Speculation::Draft(absl::Span<Item> items) {
  draft_ns_ = ahead_ns_ = 0;
  undrafted_missing_ = 0;
  rounds_.clear();
  ahead_.clear();
  if (!is_working()) return;
  candidates_.clear();
  for (const Item& item : items) {
    Slot& slot = slots_[static_cast<size_t>(item.slot)];
    if (slot.id != item.sequence->id()) {
      slot = {.id = item.sequence->id()};
      governor_.Begin(item.slot);
    }
    slot.sequence = item.sequence;
    candidates_.push_back({.slot = item.slot, .room = item.sequence->DraftRoom()});
  }
  governor_.Choose(absl::MakeSpan(candidates_));
  jobs_.clear();
  for (size_t i = 0; i < items.size(); ++i) AddJob(items[i], candidates_[i]);
  if (!jobs_.empty()) RunJobs();
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].check = std::min(candidates_[i].check, items[i].sequence->draft_count());
    if (items[i].check > 0 && drafter_->drafts_ahead()) AddAhead(items[i]);
    TellPrefetcher(items[i].slot, items[i].check);
  }
}

// If the drafts that are being checked are right, the step gives the draft behind them.
void Speculation::TellPrefetcher(int slot, int checked) {
  if (!is_sensed()) return;
  Sequence& sequence = *slots_[static_cast<size_t>(slot)].sequence;
  if (sequence.draft_count() <= checked) return;
  const int position = static_cast<int>(sequence.tokens().size()) + checked;
  parts_.prefetcher->OnDraft(
      {.sequence = slot, .position = position, .token = sequence.data()[position]});
}

// What the next step may want if all goes well: the token that this one gives, and as many drafts
// after it as are being checked now.
void Speculation::AddAhead(const Item& item) {
  Sequence& sequence = *item.sequence;
  const int known = static_cast<int>(sequence.tokens().size()) + item.check;
  const int wanted = std::min({1 + item.check, parts_.context - known, kDraftLengthMax});
  const int drafted = sequence.draft_count() - item.check;
  if (drafted >= wanted) return;
  ahead_.push_back({.slot = item.slot,
                    .tokens = sequence.data(),
                    .known = known,
                    .drafted = drafted,
                    .wanted = wanted});
}

bool Speculation::DraftAhead(int outstanding) {
  if (ahead_.empty() || !is_working()) return false;
  const double round_ns = governor_.DraftRoundNs(static_cast<int>(ahead_.size()));
  if (governor_.WaitNs(outstanding) < round_ns) return false;
  const CauseScope cause(parts_.ledger, Cause::kDraft);
  const int64_t begin_ns = parts_.clock->NowNs();
  const absl::StatusOr<bool> more = drafter_->Draft(absl::MakeSpan(ahead_));
  if (!more.ok()) status_ = more.status();
  ahead_ns_ += parts_.clock->NowNs() - begin_ns;
  for (const DraftJob& job : ahead_) {
    Sequence& sequence = *slots_[static_cast<size_t>(job.slot)].sequence;
    const int checked = job.known - static_cast<int>(sequence.tokens().size());
    totals_.drafted += static_cast<uint64_t>(checked + job.drafted - sequence.draft_count());
    sequence.SetDraftCount(checked + job.drafted);
    TellPrefetcher(job.slot, checked);
  }
  if (!more.ok() || !*more) ahead_.clear();
  return true;
}

void Speculation::AddJob(const Item& item, const Governor::Candidate& candidate) {
  Slot& slot = slots_[static_cast<size_t>(item.slot)];
  const int drafted = item.sequence->draft_count();
  if (candidate.check > 0) {
    slot.is_listening = false;
  } else if (drafted > 0) {
    return;  // listened to until they are used up
  }
  const int known = static_cast<int>(item.sequence->tokens().size());
  int wanted = candidate.draft;
  if (is_sensed() && parts_.governor.is_drafting_free) {
    wanted = std::min({wanted + 1, parts_.context - known, kDraftLengthMax});
  }
  if (drafted >= wanted) return;
  jobs_.push_back({.slot = item.slot,
                   .tokens = item.sequence->data(),
                   .known = known,
                   .drafted = drafted,
                   .wanted = wanted});
}

void Speculation::RunJobs() {
  const CauseScope cause(parts_.ledger, Cause::kDraft);
  for (bool more = true; more;) {
    const auto wanting = std::count_if(
        jobs_.begin(), jobs_.end(), [](const DraftJob& job) { return job.drafted < job.wanted; });
    const int64_t begin_ns = parts_.clock->NowNs();
    const absl::StatusOr<bool> drafted = drafter_->Draft(absl::MakeSpan(jobs_));
    const int64_t round_ns = parts_.clock->NowNs() - begin_ns;
    rounds_.push_back({.sequences = static_cast<int>(wanting), .ns = round_ns});
    draft_ns_ += round_ns;
    if (!drafted.ok()) status_ = drafted.status();
    more = drafted.ok() && *drafted;
  }
  for (const DraftJob& job : jobs_) {
    Slot& slot = slots_[static_cast<size_t>(job.slot)];
    totals_.drafted += static_cast<uint64_t>(job.drafted - slot.sequence->draft_count());
    slot.sequence->SetDraftCount(job.drafted);
    slot.is_listening = true;
    slot.heard = 0;
  }
}

void Speculation::OnTokens(const Outcome& outcome) {
  Slot& slot = slots_[static_cast<size_t>(outcome.slot)];
  if (parts_.shadow != nullptr && outcome.first_row >= 0) {
    undrafted_missing_ += parts_.shadow->Use(outcome.first_row, 1 + outcome.right);
  }
  if (outcome.checked > 0) {
    governor_.ObserveDrafts(outcome.slot, outcome.checked, outcome.right);
    for (int place = 0; place < std::min(outcome.checked, outcome.right + 1); ++place) {
      ++totals_.checked_at[static_cast<size_t>(place)];
      if (place < outcome.right) ++totals_.right_at[static_cast<size_t>(place)];
    }
    totals_.checked += static_cast<uint64_t>(outcome.checked);
    totals_.right += static_cast<uint64_t>(outcome.right);
    return;
  }
  if (!slot.is_listening || outcome.drafts_before == 0) return;
  const bool is_right = outcome.sequence->was_drafted();
  if (is_right) ++slot.heard;
  if (outcome.sequence->draft_count() > 0) return;
  governor_.ObserveDrafts(outcome.slot, slot.heard + (is_right ? 0 : 1), slot.heard);
  slot.is_listening = false;
}

void Speculation::EndStep(uint64_t draft_misses, StepRecord& record) {
  const auto cost = [&record](Cause cause) { return record.causes[static_cast<size_t>(cause)]; };
  if (record.prompt_rows > 0 || record.tokens == 0) return;
  const int rows = record.decode_rows + record.draft_rows;
  record.predicted_ns = static_cast<int64_t>(governor_.PredictNs(rows));
  const int wrong = record.draft_rows - record.drafts_right;
  record.wasted_ns = record.predicted_ns - static_cast<int64_t>(governor_.PredictNs(rows - wrong));
  // A drafter's own waits for experts are charged as waits, and are in its time too.
  const int64_t drafter_waits_ns =
      std::max<int64_t>(0, draft_ns_ + ahead_ns_ - cost(Cause::kDraft));
  const int64_t wait_ns =
      cost(Cause::kWaitDrive) + cost(Cause::kWaitCopy) - drafter_waits_ns + ahead_ns_;
  governor_.ObserveStep(
      {.cost = {.rows = rows,
                .compute_ns = static_cast<double>(record.wall_ns - wait_ns - draft_ns_),
                .wait_ns = static_cast<double>(wait_ns),
                .missing = static_cast<double>(record.misses - draft_misses)},
       .sequences = record.decode_rows,
       .tokens = record.tokens,
       .checked = record.draft_rows,
       .draft_ns = draft_ns_,
       .undrafted_missing = parts_.shadow != nullptr ? undrafted_missing_ : -1.0,
       .draft_rounds = rounds_});
  totals_.draft_ns += draft_ns_;
  totals_.ahead_ns += ahead_ns_;
}

absl::StatusOr<int32_t> Speculation::Choose(int slot, absl::Span<float> logits,
                                            absl::Span<const int32_t> history) {
  const Sequence* sequence = slots_[static_cast<size_t>(slot)].sequence;
  return sampler_.Sample(logits, history, sequence->sampling());
}

DraftTotals Speculation::totals() const {
  DraftTotals totals = totals_;
  const Governor::Totals& governed = governor_.totals();
  totals.fixed_length = parts_.governor.fixed_length;
  totals.is_on = governor_.is_on();
  totals.belief = governor_.belief();
  totals.has_failed = !status_.ok();
  totals.steps = governed.steps;
  totals.steps_checked = governed.steps_checked;
  totals.step_ns = static_cast<int64_t>(governed.step_ns);
  totals.compared_ns = static_cast<int64_t>(governed.compared_ns);
  totals.won_ns = static_cast<int64_t>(governed.won_ns);
  return totals;
}

void Speculation::Report(CounterVisitor& visitor) const {
  visitor.Counter("drafts", totals_.drafted);
  visitor.Counter("drafts_checked", totals_.checked);
  visitor.Counter("drafts_right", totals_.right);
}

}  // namespace stoker
