// Counts on the engine's thread, files on another.
#include "runtime/usage_recorder.h"

#include <utility>

#include "base/check.h"
#include "runtime/atomic_file.h"

namespace stoker {

UsageRecorder::UsageRecorder(const ExpertCatalog& catalog, Options options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      counts_(static_cast<size_t>(catalog.expert_count())),
      submitted_ns_(clock.NowNs()),
      submitted_(counts_.size()) {
  int64_t key = 0;
  for (const LayerExperts& layer : catalog.layers) {
    first_key_.resize(static_cast<size_t>(layer.layer) + 1, -1);
    first_key_.back() = key;
    key += layer.expert_count;
  }
  if (options_.before.may_replace) thread_ = std::thread([this] { Run(); });
}

UsageRecorder::~UsageRecorder() {
  if (!thread_.joinable()) return;
  if (is_changed_) Submit();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void UsageRecorder::OnRouting(int layer, int /*top_k*/, absl::Span<const int32_t> experts,
                              absl::Span<const float> /*weights*/) {
  const int64_t first_key = first_key_[static_cast<size_t>(layer)];
  CHECK(first_key >= 0);
  for (const int32_t expert : experts) ++counts_[static_cast<size_t>(first_key + expert)];
  is_changed_ = true;
}

void UsageRecorder::EndStep(bool is_idle) {
  if (!is_changed_ || !thread_.joinable()) return;
  if (!is_idle && clock_.NowNs() - submitted_ns_ < kSavePeriodNs) return;
  Submit();
  if (!is_idle) return;
  std::unique_lock<std::mutex> lock(mutex_);
  WaitUntilSaved(lock);
}

absl::Status UsageRecorder::status() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void UsageRecorder::Submit() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    submitted_ = counts_;
    is_pending_ = true;
  }
  wake_.notify_all();
  is_changed_ = false;
  submitted_ns_ = clock_.NowNs();
}

void UsageRecorder::WaitUntilSaved(std::unique_lock<std::mutex>& lock) {
  wake_.wait(lock, [this] { return !is_pending_ && !is_saving_; });
}

void UsageRecorder::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return is_pending_ || is_ending_; });
    if (!is_pending_) return;
    const std::vector<uint32_t> uses = FadeAndAdd(options_.before.uses, submitted_);
    is_pending_ = false;
    is_saving_ = true;
    lock.unlock();
    absl::Status saved = ReplaceFile(options_.path, EncodeProfile(options_.identity, uses));
    // Whoever else writes it right now has as much to tell as we.
    if (absl::IsAborted(saved)) saved = absl::OkStatus();
    lock.lock();
    is_saving_ = false;
    status_ = std::move(saved);
    wake_.notify_all();
  }
}

}  // namespace stoker
