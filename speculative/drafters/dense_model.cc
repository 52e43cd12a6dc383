// One step of the draft model after another, all sequences together.
#include "speculative/drafters/dense_model.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace stoker {
namespace {

size_t LogitsCount(const DrafterParts& parts) {
  return static_cast<size_t>(parts.sequence_count) * static_cast<size_t>(parts.vocab_count);
}

}  // namespace

std::unique_ptr<Drafter> DenseModelDrafter::Make(DrafterParts parts,
                                                 absl::Span<const double> values) {
  return std::make_unique<DenseModelDrafter>(std::move(parts), static_cast<int>(values[0]));
}

uint64_t DenseModelDrafter::PlanBytes(const DrafterParts& parts, const ModelConfig& /*target*/,
                                      absl::Span<const double> /*values*/) {
  const uint64_t token_bytes = static_cast<uint64_t>(parts.sequence_count) *
                               static_cast<uint64_t>(parts.context) * sizeof(int32_t);
  return token_bytes + static_cast<uint64_t>(parts.sequence_count) * sizeof(Seen) +
         static_cast<uint64_t>(parts.rows_max) * sizeof(StepRow) +
         LogitsCount(parts) * sizeof(float);
}

DenseModelDrafter::DenseModelDrafter(DrafterParts parts, int window)
    : parts_(std::move(parts)),
      window_(static_cast<size_t>(window)),
      seen_(static_cast<size_t>(parts_.sequence_count)),
      logits_(LogitsCount(parts_)) {
  for (Seen& seen : seen_) seen.tokens.reserve(static_cast<size_t>(parts_.context));
  rows_.reserve(static_cast<size_t>(parts_.rows_max));
}

absl::StatusOr<bool> DenseModelDrafter::Draft(absl::Span<DraftJob> jobs) {
  rows_.clear();
  for (const DraftJob& job : jobs) {
    if (Follow(job)) AddRows(job);
  }
  if (rows_.empty()) return false;
  const absl::Status status = parts_.own.model->Forward(
      rows_, *parts_.own.kv, *parts_.experts, nullptr, nullptr, {.logits = logits_.data()});
  RETURN_IF_ERROR(WithContext(status, "the draft model"));
  for (const StepRow& row : rows_) {
    seen_[static_cast<size_t>(row.sequence)].tokens.push_back(row.token);
  }
  RETURN_IF_ERROR(Choose(jobs));
  return std::any_of(jobs.begin(), jobs.end(),
                     [](const DraftJob& job) { return job.drafted < job.wanted; });
}

// Forgets what the job's tokens are not. Whether a draft is wanted and can be had.
bool DenseModelDrafter::Follow(const DraftJob& job) {
  const absl::Span<const int32_t> history = job.history();
  Seen& seen = seen_[static_cast<size_t>(job.slot)];
  const auto begin = seen.tokens.begin();
  const auto known = history.subspan(std::min(seen.first, history.size()));
  const auto same = std::mismatch(begin, seen.tokens.end(), known.begin(), known.end()).first;
  // The last token is computed again if need be: its logits are what is wanted.
  const size_t end = std::min(seen.first + static_cast<size_t>(same - begin), history.size() - 1);
  size_t kept = end > seen.first ? end - seen.first : 0;
  if (kept == 0 || history.size() - end > window_) {
    kept = 0;
    seen.first = history.size() - std::min(history.size(), window_);
  }
  if (kept < seen.tokens.size()) {
    seen.tokens.resize(kept);
    parts_.own.kv->Truncate(job.slot, static_cast<int>(kept));
  }
  return job.drafted < job.wanted && static_cast<int>(history.size()) <= parts_.context;
}

void DenseModelDrafter::AddRows(const DraftJob& job) {
  const absl::Span<const int32_t> history = job.history();
  const Seen& seen = seen_[static_cast<size_t>(job.slot)];
  const size_t room = static_cast<size_t>(parts_.rows_max) - rows_.size();
  const size_t end = std::min(history.size(), seen.end() + room);
  for (size_t i = seen.end(); i < end; ++i) {
    rows_.push_back({.token = history[i],
                     .sequence = job.slot,
                     .position = static_cast<int32_t>(i - seen.first),
                     .wants_logits = i + 1 == history.size()});
  }
}

absl::Status DenseModelDrafter::Choose(absl::Span<DraftJob> jobs) {
  float* logits = logits_.data();
  for (const StepRow& row : rows_) {
    if (!row.wants_logits) continue;
    DraftJob& job = *std::find_if(jobs.begin(), jobs.end(), [&row](const DraftJob& candidate) {
      return candidate.slot == row.sequence;
    });
    ASSIGN_OR_RETURN(
        job.tokens[job.known + job.drafted],
        parts_.chooser->Choose(job.slot, {logits, static_cast<size_t>(parts_.vocab_count)},
                               job.history()));
    ++job.drafted;
    logits += parts_.vocab_count;
  }
  return absl::OkStatus();
}

}  // namespace stoker
