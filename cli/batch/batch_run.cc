// Fill, step, write; until nothing is left.
#include "cli/batch/batch_run.h"

#include <fmt/format.h>

#include <iterator>
#include <limits>
#include <utility>

#include "base/status.h"

namespace stoker {
namespace {

// What a loss of power may cost: lines of this long, which the next run writes again.
constexpr int64_t kSyncIntervalNs = 1'000'000'000;
// A drive that is gone fails every step; one that stumbles does not fail so many on end.
constexpr int kFailedStepsMax = 3;

}  // namespace

BatchRun::BatchRun(const Parts& parts)
    : parts_(parts),
      done_before_count_(parts.output.done_count()),
      start_ns_(parts.clock.NowNs()),
      synced_ns_(start_ns_) {}

absl::Status BatchRun::Run() {
  absl::Status status = StepUntilDone();
  Drain();
  const absl::Status synced = parts_.output.Sync();
  if (status.ok()) status = synced;
  if (!status.ok() || left_over_count_ == 0) return status;
  return absl::Status(
      first_step_error_.code(),
      fmt::format("{}\n  {} prompt{} ended with such a step and {} no answer\n"
                  "  try: the same command again, which runs what has none",
                  MessageOf(first_step_error_), left_over_count_, left_over_count_ == 1 ? "" : "s",
                  left_over_count_ == 1 ? "has" : "have"));
}

absl::Status BatchRun::StepUntilDone() {
  while (true) {
    RETURN_IF_ERROR(Fill());
    if (running_.empty()) return absl::OkStatus();
    if (parts_.is_interrupted()) return absl::CancelledError("interrupted");
    ASSIGN_OR_RETURN(const absl::Span<const TokenEvent> events, parts_.engine.Step());
    statistics_.Add(parts_.engine.last_step());
    for (const TokenEvent& event : events) RETURN_IF_ERROR(Take(event));
    RETURN_IF_ERROR(NoteStepError());
    RETURN_IF_ERROR(SyncNowAndThen());
    if (parts_.show) parts_.show(progress());
  }
}

absl::Status BatchRun::Fill() {
  const int64_t end = parts_.output.prompt_count();
  for (; next_index_ < end && std::ssize(running_) < parts_.sequences_max; ++next_index_) {
    if (!parts_.output.IsDone(next_index_)) RETURN_IF_ERROR(Start(next_index_));
  }
  return absl::OkStatus();
}

absl::Status BatchRun::Start(int64_t index) {
  ASSIGN_OR_RETURN(BatchRequest request, parts_.input.Read(index));
  const Tokenizer& tokenizer = parts_.engine.tokenizer();
  SequenceRequest sequence = {.prompt = tokenizer.Encode(request.prompt, EncodeOptions{}),
                              .sampling = request.sampling,
                              .tokens_max = request.tokens_max < 0
                                                ? std::numeric_limits<int64_t>::max()
                                                : request.tokens_max,
                              .stops = request.stops};
  const auto prompt_tokens = static_cast<int64_t>(sequence.prompt.size());
  const absl::StatusOr<SequenceId> id = parts_.engine.Add(std::move(sequence));
  if (id.ok()) {
    running_[*id] = {
        .index = index, .request = std::move(request), .answer = {.prompt_tokens = prompt_tokens}};
    return absl::OkStatus();
  }
  if (id.status().code() != absl::StatusCode::kInvalidArgument) return id.status();
  return parts_.output.PutError(index, request, MessageOf(id.status()));
}

absl::Status BatchRun::Take(const TokenEvent& event) {
  const auto found = running_.find(event.sequence);
  if (found == running_.end()) return absl::OkStatus();
  BatchAnswer& answer = found->second.answer;
  answer.text += event.text;
  if (event.token >= 0) {
    ++answer.generated_tokens;
    ++tokens_;
  }
  if (event.finish == FinishReason::kNone) return absl::OkStatus();
  answer.finish = event.finish;
  const Running ended = std::move(found->second);
  running_.erase(found);
  if (event.finish == FinishReason::kFailed) {
    ++left_over_count_;
    return absl::OkStatus();
  }
  return parts_.output.PutAnswer(ended.index, ended.request, ended.answer);
}

absl::Status BatchRun::NoteStepError() {
  const absl::Status error = parts_.engine.last_error();
  if (error.ok()) {
    failed_steps_in_a_row_ = 0;
    return absl::OkStatus();
  }
  if (first_step_error_.ok()) first_step_error_ = error;
  if (++failed_steps_in_a_row_ < kFailedStepsMax) return absl::OkStatus();
  return absl::Status(
      error.code(), fmt::format("{}\n  {} steps in a row failed, so the batch stopped\n  try: the "
                                "same command again once that is mended: it goes on from here",
                                MessageOf(error), kFailedStepsMax));
}

absl::Status BatchRun::SyncNowAndThen() {
  const int64_t now_ns = parts_.clock.NowNs();
  if (now_ns - synced_ns_ < kSyncIntervalNs) return absl::OkStatus();
  synced_ns_ = now_ns;
  return parts_.output.Sync();
}

// Leaves the engine idle: with a profile or a trace it writes what is due then.
void BatchRun::Drain() {
  for (const auto& [id, running] : running_) parts_.engine.Cancel(id);
  running_.clear();
  while (!parts_.engine.idle() && parts_.engine.Step().ok()) {
  }
}

BatchProgress BatchRun::progress() const {
  return {.prompt_count = parts_.output.prompt_count(),
          .done_count = parts_.output.done_count(),
          .done_before_count = done_before_count_,
          .failed_count = parts_.output.failed_count(),
          .tokens = tokens_,
          .elapsed_ns = parts_.clock.NowNs() - start_ns_};
}

}  // namespace stoker
