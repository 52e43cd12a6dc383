// Times reads by a rate and a latency.
#include "io/modelled_reader.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace stoker {
namespace {

// Of files that are not there: no read reaches past it.
constexpr uint64_t kFileBytes = uint64_t{1} << 62;

int64_t TransferNs(size_t bytes, double rate) {
  return std::llround(static_cast<double>(bytes) * 1e9 / rate);
}

}  // namespace

ModelledReader::ModelledReader(const ModelOptions& options, Clock& clock,
                               std::unique_ptr<BlockReader> inner)
    : options_(options),
      clock_(clock),
      inner_(std::move(inner)),
      queue_(options.reader),
      transfers_(static_cast<size_t>(std::max(1, options.reader.queue_depth))) {
  CHECK(options.rate > 0 && options.latency_ns >= 0);
}

absl::StatusOr<int> ModelledReader::AddFile(const std::string& path) {
  if (inner_ != nullptr) return inner_->AddFile(path);
  CHECK(static_cast<size_t>(file_count_) < options_.alignments.size());
  return file_count_++;
}

size_t ModelledReader::alignment(int file) const {
  if (inner_ != nullptr) return inner_->alignment(file);
  return options_.alignments[static_cast<size_t>(file)];
}

absl::StatusOr<FileIdentity> ModelledReader::Identify(int file) const {
  if (inner_ != nullptr) return inner_->Identify(file);
  return FileIdentity{.inode = static_cast<uint64_t>(file) + 1, .bytes = kFileBytes};
}

void ModelledReader::RegisterMemory(absl::Span<std::byte> memory) {
  if (inner_ != nullptr) inner_->RegisterMemory(memory);
}

void ModelledReader::Submit(const ReadRequest& request, ReadPriority priority) {
  Advance();  // what waited enters before this one can
  queue_.Push(request, priority);
}

// What waits enters the drive as far as the depths allow.
void ModelledReader::EnterAt(int64_t now_ns) {
  for (int slot = queue_.Enter(); slot >= 0; slot = queue_.Enter()) {
    CHECK(transfer_count_ < transfers_.size());
    const ReadRequest& request = queue_.request(slot);
    transfer_end_ns_ =
        std::max(transfer_end_ns_, now_ns) + TransferNs(request.bytes, options_.rate);
    At(transfer_count_++) = {.slot = slot,
                             .here_ns = transfer_end_ns_ + options_.latency_ns,
                             .is_read = inner_ == nullptr,
                             .result = static_cast<int64_t>(request.bytes)};
    if (inner_ == nullptr) continue;
    ReadRequest read = request;
    read.tag = static_cast<uint64_t>(slot);
    inner_->Submit(read, ReadPriority::kDemand);
  }
  if (inner_ != nullptr) inner_->Kick();
}

// Ends the transfers whose time has come; each lets another in at that moment.
void ModelledReader::Advance() {
  const int64_t now_ns = clock_.NowNs();
  while (transfer_count_ > 0 && At(0).here_ns <= now_ns && At(0).is_read) FinishFirst();
}

void ModelledReader::FinishFirst() {
  const Transfer done = At(0);
  first_ = (first_ + 1) % transfers_.size();
  --transfer_count_;
  queue_.Finish(done.slot, done.result);
  EnterAt(done.here_ns);
}

void ModelledReader::TakeInner(Wait wait) {
  if (inner_ == nullptr) return;
  ReadCompletion completions[64];
  const size_t count = inner_->Reap(absl::MakeSpan(completions), wait);
  for (size_t i = 0; i < count; ++i) {
    for (size_t position = 0; position < transfer_count_; ++position) {
      Transfer& transfer = At(position);
      if (static_cast<uint64_t>(transfer.slot) != completions[i].tag) continue;
      transfer.is_read = true;
      transfer.result = completions[i].result;
    }
  }
}

void ModelledReader::Kick() {
  TakeInner(Wait::kNo);
  Advance();
  EnterAt(clock_.NowNs());
}

size_t ModelledReader::Reap(absl::Span<ReadCompletion> completions, Wait wait) {
  Kick();
  while (wait == Wait::kUntilOne && !queue_.has_done() && transfer_count_ > 0) {
    clock_.SleepUntilNs(At(0).here_ns);
    while (!At(0).is_read) TakeInner(Wait::kUntilOne);
    Advance();
  }
  const size_t count = queue_.TakeDone(completions);
  EnterAt(clock_.NowNs());
  return count;
}

std::string ModelledReader::notice() const {
  return inner_ != nullptr ? inner_->notice() : std::string();
}

void ModelledReader::Report(CounterVisitor& visitor) const { queue_.Report(visitor); }

}  // namespace stoker
