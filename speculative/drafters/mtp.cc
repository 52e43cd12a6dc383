// Catches up with the states that wait, then feeds drafts back, all sequences together.
#include "speculative/drafters/mtp.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace stoker {
namespace {

size_t Count(int rows, int columns) {
  return static_cast<size_t>(rows) * static_cast<size_t>(columns);
}

}  // namespace

std::unique_ptr<Drafter> MtpDrafter::Make(DrafterParts parts, absl::Span<const double> /*values*/) {
  return std::make_unique<MtpDrafter>(std::move(parts));
}

uint64_t MtpDrafter::PlanBytes(const DrafterParts& parts, const ModelConfig& target,
                               absl::Span<const double> /*values*/) {
  const uint64_t slot_bytes =
      sizeof(Slot) + kStatesMax * sizeof(int32_t) + Count(kStatesMax + 1, target.hidden) * 4;
  return static_cast<uint64_t>(parts.sequence_count) * slot_bytes +
         static_cast<uint64_t>(parts.rows_max) * sizeof(MtpRow) +
         (Count(parts.rows_max, target.hidden) + Count(parts.sequence_count, parts.vocab_count)) *
             sizeof(float);
}

MtpDrafter::MtpDrafter(DrafterParts parts)
    : parts_(std::move(parts)),
      hidden_(static_cast<size_t>(parts_.target->spec().config.hidden)),
      slots_(static_cast<size_t>(parts_.sequence_count)),
      normed_(static_cast<size_t>(parts_.rows_max) * hidden_),
      logits_(Count(parts_.sequence_count, parts_.vocab_count)) {
  for (Slot& s : slots_) {
    s.tokens.resize(kStatesMax);
    s.states.resize(kStatesMax * hidden_);
    s.fed_back.resize(hidden_);
  }
  rows_.reserve(static_cast<size_t>(parts_.rows_max));
}

void MtpDrafter::OnRows(const VerifiedRows& rows) {
  Slot& s = slot(rows.slot);
  if (rows.first != s.next) s.certain = s.waiting = 0;  // another sequence
  s.guesses = 0;
  parts_.own.kv->Truncate(rows.slot, s.certain);
  for (int row = 0; row < rows.rows; ++row) {
    Wait(s, rows.tokens[static_cast<size_t>(row) + 1], rows.normed + Count(row, 1) * hidden_);
  }
  s.next = rows.first + rows.rows;
}

void MtpDrafter::Wait(Slot& s, int32_t token, const float* state) {
  if (s.waiting == kStatesMax) {
    s.first = (s.first + 1) % kStatesMax;
    --s.waiting;
    s.certain = 0;  // there is a gap: what the cache holds has nothing to do with what comes
  }
  const auto at = static_cast<size_t>((s.first + s.waiting++) % kStatesMax);
  s.tokens[at] = token;
  std::copy_n(state, hidden_, s.states.data() + at * hidden_);
}

absl::StatusOr<bool> MtpDrafter::Draft(absl::Span<DraftJob> jobs) {
  rows_.clear();
  for (DraftJob& job : jobs) AddRows(job);
  if (rows_.empty()) return false;
  const absl::Status status =
      parts_.target->ForwardMtp(rows_, *parts_.own.kv, *parts_.experts, nullptr, nullptr,
                                {.logits = logits_.data(), .normed = normed_.data()});
  RETURN_IF_ERROR(WithContext(status, "the multi-token-prediction layer"));
  RETURN_IF_ERROR(Choose(jobs));
  return std::any_of(jobs.begin(), jobs.end(),
                     [](const DraftJob& job) { return job.drafted < job.wanted; });
}

void MtpDrafter::AddRows(DraftJob& job) {
  Slot& s = slot(job.slot);
  if (job.drafted >= job.wanted || Room() == 0) return;
  if (s.waiting > 0) {
    job.drafted = 0;  // drafts there are were made without these states
    AddWaiting(job, s);
    return;
  }
  const int position = s.certain + s.guesses;
  // Drafts that it was not asked to continue at once cannot be continued later.
  if (job.drafted == 0 || job.drafted != s.guesses + 1 || position >= parts_.context) return;
  rows_.push_back({.token = job.history().back(),
                   .sequence = job.slot,
                   .position = position,
                   .hidden = s.fed_back.data(),
                   .wants_logits = true});
  ++s.guesses;
}

void MtpDrafter::AddWaiting(const DraftJob& job, Slot& s) {
  parts_.own.kv->Truncate(job.slot, s.certain);
  const int count = std::min(s.waiting, Room());
  if (s.certain + count > parts_.context) {
    s.certain = 0;
    parts_.own.kv->Truncate(job.slot, 0);
  }
  for (int row = 0; row < count; ++row) {
    const auto at = static_cast<size_t>((s.first + row) % kStatesMax);
    rows_.push_back({.token = s.tokens[at],
                     .sequence = job.slot,
                     .position = s.certain + row,
                     .hidden = s.states.data() + at * hidden_,
                     .wants_logits = row + 1 == s.waiting});
  }
  s.first = (s.first + count) % kStatesMax;
  s.waiting -= count;
  s.certain += count;
}

absl::Status MtpDrafter::Choose(absl::Span<DraftJob> jobs) {
  float* logits = logits_.data();
  for (size_t row = 0; row < rows_.size(); ++row) {
    if (!rows_[row].wants_logits) continue;
    const int index = rows_[row].sequence;
    std::copy_n(normed_.data() + row * hidden_, hidden_, slot(index).fed_back.data());
    DraftJob& job = *std::find_if(jobs.begin(), jobs.end(), [index](const DraftJob& candidate) {
      return candidate.slot == index;
    });
    ASSIGN_OR_RETURN(job.tokens[job.known + job.drafted],
                     parts_.chooser->Choose(
                         index, {logits, static_cast<size_t>(parts_.vocab_count)}, job.history()));
    ++job.drafted;
    logits += parts_.vocab_count;
  }
  return absl::OkStatus();
}

}  // namespace stoker
