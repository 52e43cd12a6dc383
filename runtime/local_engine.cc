// One step: plan, forward, sample, record.
#include "runtime/local_engine.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr CacheCounts kNoCounts = {};

}  // namespace

LocalEngine::LocalEngine(EngineParts parts)
    : parts_(std::move(parts)),
      scheduler_(parts_.limits.chunk, parts_.limits.sequence_count),
      sampler_(parts_.model->spec().config.vocab_count, parts_.limits.context + 1) {
  const ModelConfig& config = parts_.model->spec().config;
  output_.logits = reinterpret_cast<float*>(parts_.outputs.data());
  float* end = output_.logits + int64_t{parts_.limits.logits_rows_max()} * config.vocab_count;
  if (parts_.limits.hidden_states) {
    output_.hidden = end;
    output_.hidden_block_stride = int64_t{parts_.limits.evaluate_rows} * config.hidden;
    end += (config.layer_count + 1) * output_.hidden_block_stride;
  }
  output_.exp_sums = reinterpret_cast<ExpSum*>(end);
  if (parts_.limits.mtp_rows > 0) {
    output_.normed = reinterpret_cast<float*>(output_.exp_sums + parts_.limits.logits_rows_max());
  }
  rows_.reserve(static_cast<size_t>(parts_.limits.step_rows_max()));
  events_.reserve(static_cast<size_t>(parts_.limits.decode_rows_max()));
  drafting_.reserve(static_cast<size_t>(parts_.limits.sequence_count));
  record_.worst_misses.reserve(kWorstMissesMax);
}

absl::StatusOr<SequenceId> LocalEngine::Add(SequenceRequest request) {
  RETURN_IF_ERROR(ValidateRequest(request, spec().config.vocab_count, context()));
  if (sequences_.size() >= kSequencesQueuedMax) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} sequences are queued already: wait until some have ended", kSequencesQueuedMax));
  }
  const SequenceId id = next_id_++;
  sequences_.push_back(
      std::make_unique<Sequence>(id, std::move(request), *parts_.tokenizer, context()));
  scheduler_.Add(id, sequences_.back()->prompt_count());
  return id;
}

void LocalEngine::Cancel(SequenceId id) {
  if (Find(id) != nullptr) cancelled_.push_back(id);
}

absl::StatusOr<absl::Span<const TokenEvent>> LocalEngine::Step() {
  BeginRecord();
  events_.clear();
  last_error_ = absl::OkStatus();
  EndCancelled();
  if (parts_.speculation != nullptr) DraftTokens();
  const absl::Span<const StepPart> plan = scheduler_.Plan();
  if (!plan.empty()) {
    BuildRows(plan);
    last_error_ = Forward({.logits = output_.logits, .normed = output_.normed});
    if (last_error_.ok()) {
      SampleTokens(plan);
    } else {
      FailAll(plan);
    }
  }
  EndRecord();
  EndStore();
  return events_;
}

// Between steps, where nobody waits: the drive may have become idle, and the profile may be due.
void LocalEngine::EndStore() {
  if (parts_.cache != nullptr) parts_.cache->IssueHints();
  if (parts_.usage == nullptr) return;
  parts_.usage->EndStep(idle());
  const absl::Status status = parts_.usage->status();
  if (status.ok() || usage_failed_) return;
  usage_failed_ = true;
  parts_.info.late_notices.push_back(
      fmt::format("the usage profile is not saved: {}", MessageOf(status)));
}

void LocalEngine::BeginRecord() {
  parts_.ledger->Take();
  parts_.ledger->Switch(Cause::kScheduling);
  counts_before_ = cache_counts();
  system_before_ns_ = parts_.system_time_ns();
  record_.prompt_rows = 0;
  record_.decode_rows = 0;
  record_.draft_rows = 0;
  record_.drafts_right = 0;
  record_.predicted_ns = 0;
  record_.wasted_ns = 0;
  record_.tokens = 0;
  record_.worst_misses.clear();
}

void LocalEngine::EndRecord() {
  const CacheCounts& counts = cache_counts();
  record_.hits = counts.hits - counts_before_.hits;
  record_.misses = counts.misses - counts_before_.misses;
  record_.hints = counts.hints - counts_before_.hints;
  record_.vram_hits = counts.vram_hits - counts_before_.vram_hits;
  record_.read_bytes = counts.read_bytes - counts_before_.read_bytes;
  record_.copied_in_bytes = counts.copied_in_bytes - counts_before_.copied_in_bytes;
  record_.copied_out_bytes = counts.copied_out_bytes - counts_before_.copied_out_bytes;
  record_.host_experts = counts.host_experts - counts_before_.host_experts;
  record_.device_experts = counts.device_experts - counts_before_.device_experts;
  record_.drive_busy_ns = counts.busy_ns - counts_before_.busy_ns;
  if (record_.misses > 0) {
    const absl::Span<const MissRecord> misses = parts_.cache->misses();
    record_.worst_misses.resize(std::min(misses.size(), kWorstMissesMax));
    std::partial_sort_copy(
        misses.begin(), misses.end(), record_.worst_misses.begin(), record_.worst_misses.end(),
        [](const MissRecord& a, const MissRecord& b) { return a.read_ns > b.read_ns; });
  }
  record_.system_ns = parts_.system_time_ns() - system_before_ns_;
  parts_.ledger->Switch(Cause::kOther);
  record_.causes = parts_.ledger->Take();
  record_.wall_ns = std::accumulate(record_.causes.begin(), record_.causes.end(), int64_t{0});
  if (parts_.speculation != nullptr) parts_.speculation->EndStep(draft_misses_, record_);
  if (parts_.recorder != nullptr) EndTrace();
}

// The step's part of the trace. What it holds is written by the next step, or here when there is
// none to come.
void LocalEngine::EndTrace() {
  TraceRecorder& recorder = *parts_.recorder;
  recorder.EndStep(record_);
  if (idle()) recorder.Flush();
  if (recorder.status().ok() || trace_failed_) return;
  trace_failed_ = true;
  parts_.info.late_notices.push_back(
      fmt::format("{}; the run goes on without", MessageOf(recorder.status())));
}

// Runs the rows, which gives all of `output` that is not null.
absl::Status LocalEngine::Forward(const StepOutput& output) {
  record_.step = ++step_;
  if (parts_.cache != nullptr) parts_.cache->BeginStep(step_);
  StepObserver* const observer = parts_.observers.empty() ? nullptr : &parts_.observers;
  const absl::Status status =
      parts_.model->Forward(rows_, *parts_.kv, Experts(), observer, parts_.ledger.get(), output);
  if (parts_.prefetcher != nullptr) parts_.prefetcher->EndStep();
  return WithContext(status, fmt::format("step {}", step_));
}

ExpertProvider& LocalEngine::Experts() {
  if (parts_.drafting_store != nullptr) return *parts_.drafting_store;
  if (parts_.wrapped_cache != nullptr) return *parts_.wrapped_cache;
  if (parts_.cache != nullptr) return *parts_.cache;
  return parts_.no_experts;
}

// Gives the decoding sequences drafts for the step to check.
void LocalEngine::DraftTokens() {
  drafting_.clear();
  for (const StepPart& part : scheduler_.Decoding()) {
    drafting_.push_back({.sequence = Find(part.sequence), .slot = part.slot});
  }
  const uint64_t misses_before = cache_counts().misses;
  parts_.speculation->Draft(absl::MakeSpan(drafting_));
  draft_misses_ = cache_counts().misses - misses_before;
  for (const Speculation::Item& item : drafting_) {
    scheduler_.Check(item.sequence->id(), item.check);
  }
  if (parts_.speculation->status().ok() || drafting_failed_) return;
  drafting_failed_ = true;
  parts_.info.late_notices.push_back(
      fmt::format("drafting has stopped: {}", MessageOf(parts_.speculation->status())));
}

void LocalEngine::BuildRows(absl::Span<const StepPart> plan) {
  rows_.clear();
  for (const StepPart& part : plan) {
    if (part.first == 0) parts_.kv->Truncate(part.slot, 0);
    const TokenId* const tokens = Find(part.sequence)->data();  // and drafts
    for (int row = 0; row < part.rows; ++row) {
      const int position = part.first + row;
      rows_.push_back({.token = tokens[position],
                       .sequence = part.slot,
                       .position = position,
                       .wants_logits = part.wants_token && row >= part.rows - 1 - part.drafts});
    }
    (part.is_prompt ? record_.prompt_rows : record_.decode_rows) += part.rows - part.drafts;
    record_.draft_rows += part.drafts;
    if (parts_.recorder != nullptr) {
      parts_.recorder->AddRows({.sequence = part.sequence - 1,
                                .first_position = part.first,
                                .count = part.rows,
                                .is_prompt = part.is_prompt,
                                .drafts = part.drafts});
    }
  }
}

void LocalEngine::EndCancelled() {
  for (const SequenceId id : cancelled_) {
    Sequence* sequence = Find(id);
    if (sequence != nullptr) Finish(*sequence, FinishReason::kCancelled);
  }
  cancelled_.clear();
}

void LocalEngine::SampleTokens(absl::Span<const StepPart> plan) {
  const CauseScope scope(parts_.ledger.get(), Cause::kSampling);
  scheduler_.Done();
  float* logits = output_.logits;
  const float* normed = output_.normed;
  int first_row = 0;
  for (const StepPart& part : plan) {
    int kept = part.rows;
    if (part.wants_token) {
      kept -= part.drafts - SamplePart(part, part.is_prompt ? -1 : first_row, logits);
      logits += int64_t{1 + part.drafts} * spec().config.vocab_count;
    }
    first_row += part.rows;
    if (normed == nullptr) continue;
    TellDrafter(part, kept, normed);
    normed += int64_t{part.rows} * spec().config.hidden;
  }
}

// What the drafter starts from, where it follows the model's states.
void LocalEngine::TellDrafter(const StepPart& part, int kept_rows, const float* normed) {
  const Sequence* sequence = Find(part.sequence);
  if (sequence == nullptr) return;  // it has ended
  parts_.speculation->OnRows({.slot = part.slot,
                              .first = part.first,
                              .tokens = sequence->tokens().subspan(static_cast<size_t>(part.first)),
                              .rows = kept_rows,
                              .normed = normed});
}

// The newest token's row gives a token; as long as that is the draft in the next row, so does that
// row. Returns how many drafts were right.
int LocalEngine::SamplePart(const StepPart& part, int first_row, float* logits) {
  Sequence& sequence = *Find(part.sequence);
  const int drafts_before = sequence.draft_count();
  int tokens = 0, right = 0;
  bool is_running = true;
  // A token that was a draft is what the next row was computed from.
  while (is_running && right == tokens && tokens <= part.drafts) {
    is_running = SampleToken(sequence, logits);
    ++tokens;
    if (tokens <= part.drafts && sequence.was_drafted()) ++right;
    logits += spec().config.vocab_count;
  }
  record_.drafts_right += right;
  if (parts_.speculation != nullptr) {
    parts_.speculation->OnTokens({.sequence = &sequence,
                                  .slot = part.slot,
                                  .checked = part.drafts,
                                  .right = right,
                                  .drafts_before = drafts_before,
                                  .first_row = first_row});
  }
  if (!is_running) {
    Forget(part.sequence);
    return right;
  }
  scheduler_.Grow(part.sequence, tokens);
  if (tokens <= part.drafts) {
    parts_.kv->Truncate(part.slot, static_cast<int>(sequence.tokens().size()) - 1);
  }
  return right;
}

// Whether the sequence goes on.
bool LocalEngine::SampleToken(Sequence& sequence, float* logits) {
  const absl::Span<float> row(logits, static_cast<size_t>(spec().config.vocab_count));
  if (parts_.see_logits) parts_.see_logits(sequence.id(), row);
  const absl::StatusOr<TokenId> token =
      sampler_.Sample(row, sequence.tokens(), sequence.sampling());
  if (!token.ok()) {
    last_error_ = WithContext(token.status(), fmt::format("sequence {}", sequence.id()));
    events_.push_back(sequence.End(FinishReason::kFailed));
    return false;
  }
  ++record_.tokens;
  events_.push_back(sequence.Accept(*token));
  return events_.back().finish == FinishReason::kNone;
}

void LocalEngine::FailAll(absl::Span<const StepPart> plan) {
  for (const StepPart& part : plan) Finish(*Find(part.sequence), FinishReason::kFailed);
}

void LocalEngine::Finish(Sequence& sequence, FinishReason reason) {
  events_.push_back(sequence.End(reason));
  Forget(sequence.id());
}

Sequence* LocalEngine::Find(SequenceId id) {
  const auto found = std::find_if(sequences_.begin(), sequences_.end(),
                                  [id](const auto& sequence) { return sequence->id() == id; });
  return found == sequences_.end() ? nullptr : found->get();
}

void LocalEngine::Forget(SequenceId id) {
  scheduler_.Remove(id);
  std::erase_if(sequences_, [id](const auto& sequence) { return sequence->id() == id; });
}

absl::Status LocalEngine::CheckEvaluate(absl::Span<const TokenId> ids, bool want_hidden) const {
  if (!idle()) {
    return absl::FailedPreconditionError("sequences are running: evaluate when they have ended");
  }
  if (parts_.limits.evaluate_rows == 0 || (want_hidden && output_.hidden == nullptr)) {
    return absl::FailedPreconditionError(
        "the engine was opened without memory for what is to be evaluated "
        "(EngineOptions::logits_rows_max, hidden_states)");
  }
  SequenceRequest request;  // greedy and valid but for its prompt
  request.prompt.assign(ids.begin(), ids.end());
  return ValidateRequest(request, spec().config.vocab_count, context());
}

absl::Status LocalEngine::Evaluate(absl::Span<const TokenId> ids, bool want_hidden,
                                   const std::function<absl::Status(const EvaluatedRows&)>& sink) {
  RETURN_IF_ERROR(CheckEvaluate(ids, want_hidden));
  parts_.kv->Truncate(0, 0);
  evaluated_ = next_id_++;
  const auto count = static_cast<int>(ids.size());
  for (int first = 0; first < count; first += parts_.limits.evaluate_rows) {
    const int rows = std::min(parts_.limits.evaluate_rows, count - first);
    RETURN_IF_ERROR(EvaluateRows(ids.subspan(static_cast<size_t>(first), static_cast<size_t>(rows)),
                                 first, want_hidden));
    RETURN_IF_ERROR(sink({.first = first,
                          .rows = rows,
                          .logits = output_.logits,
                          .exp_sums = output_.exp_sums,
                          .hidden = want_hidden ? output_.hidden : nullptr,
                          .hidden_block_stride = output_.hidden_block_stride}));
  }
  EndStore();
  return absl::OkStatus();
}

absl::Status LocalEngine::EvaluateRows(absl::Span<const TokenId> ids, int first, bool want_hidden) {
  BeginRecord();
  rows_.clear();
  for (size_t row = 0; row < ids.size(); ++row) {
    rows_.push_back({.token = ids[row],
                     .sequence = 0,
                     .position = first + static_cast<int>(row),
                     .wants_logits = true});
  }
  record_.prompt_rows = static_cast<int>(ids.size());
  if (parts_.recorder != nullptr) {
    parts_.recorder->AddRows({.sequence = evaluated_ - 1,
                              .first_position = first,
                              .count = record_.prompt_rows,
                              .is_prompt = true});
  }
  StepOutput output = output_;
  if (!want_hidden) output.hidden = nullptr;
  const absl::Status status = Forward(output);
  EndRecord();
  return status;
}

const CacheCounts& LocalEngine::cache_counts() const {
  return parts_.cache != nullptr ? parts_.cache->counts() : kNoCounts;
}

DraftTotals LocalEngine::draft_totals() const {
  return parts_.speculation != nullptr ? parts_.speculation->totals() : DraftTotals();
}

std::optional<LinkRates> LocalEngine::links() const {
  if (!parts_.info.links.has_value() || parts_.cache == nullptr) return {};
  return parts_.cache->rates();
}

void LocalEngine::Report(CounterVisitor& visitor) const {
  visitor.Counter("steps", static_cast<uint64_t>(step_));
  visitor.Gauge("sequences_waiting", scheduler_.waiting_count());
  visitor.Gauge("sequences_running",
                static_cast<double>(sequences_.size()) - scheduler_.waiting_count());
  if (parts_.cache != nullptr) parts_.cache->Report(visitor);
  if (parts_.prefetcher != nullptr) parts_.prefetcher->Report(visitor);
  if (parts_.speculation != nullptr) parts_.speculation->Report(visitor);
  parts_.expert_reader->Report(visitor);
  if (parts_.device != nullptr) parts_.device->Report(visitor);
}

}  // namespace stoker
