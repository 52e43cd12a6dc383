// A few threads calling pread(2): the reader that works everywhere.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/block_reader.h"
#include "io/read_queue.h"
#include "io/reader_files.h"

namespace stoker {
namespace {

// Whole-expert reads saturate a drive at a queue depth of 1 to 4.
constexpr int kThreadCountMax = 4;

// The threads are the device: as many reads are in it as there are threads, and hints may not take
// them all, or a demand would wait for a guess.
BlockReader::Options Bounded(BlockReader::Options options) {
  options.queue_depth = std::clamp(options.queue_depth, 1, kThreadCountMax);
  options.hint_depth = std::clamp(options.hint_depth, 1, std::max(1, options.queue_depth / 2));
  return options;
}

class PreadReader final : public BlockReader {
 public:
  explicit PreadReader(const Options& options) : files_(options.direct), queue_(Bounded(options)) {
    const int thread_count = Bounded(options).queue_depth;
    jobs_.reserve(static_cast<size_t>(thread_count));
    outcomes_.reserve(static_cast<size_t>(thread_count));
    taken_.reserve(static_cast<size_t>(thread_count));
    for (int i = 0; i < thread_count; ++i) threads_.emplace_back([this] { Serve(); });
  }
  ~PreadReader() override;

  std::string_view name() const override { return "pread"; }
  absl::StatusOr<int> AddFile(const std::string& path) override { return files_.Add(path); }
  size_t alignment(int file) const override { return files_.alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return files_.Identify(file); }
  void RegisterMemory(absl::Span<std::byte>) override {}
  void Submit(const ReadRequest& request, ReadPriority priority) override;
  bool Promote(uint64_t tag) override { return queue_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return queue_.Cancel(tag); }
  void Kick() override;
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override;
  size_t in_flight() const override { return queue_.in_flight(); }
  std::string notice() const override { return files_.notice(); }
  void Report(CounterVisitor& visitor) const override { queue_.Report(visitor); }

 private:
  struct Job {
    int slot = 0;
    int descriptor = -1;
    ReadRequest request;
  };
  struct Outcome {
    int slot = 0;
    int64_t result = 0;
  };

  void Serve();
  void TakeOutcomes(bool must_wait);

  // The owner's alone.
  ReaderFiles files_;
  ReadQueue queue_;
  std::vector<Outcome> taken_;

  std::mutex mutex_;
  std::condition_variable has_job_;
  std::condition_variable has_outcome_;
  std::vector<Job> jobs_;          // in order; guarded by mutex_, like all below
  std::vector<Outcome> outcomes_;  // in order of completion
  bool is_stopping_ = false;

  std::vector<std::thread> threads_;
};

PreadReader::~PreadReader() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  has_job_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PreadReader::Serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    has_job_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
    if (is_stopping_) return;
    const Job job = jobs_.front();
    jobs_.erase(jobs_.begin());
    lock.unlock();
    const ssize_t got = pread(job.descriptor, job.request.target, job.request.bytes,
                              static_cast<off_t>(job.request.offset));
    const int64_t result = got >= 0 ? got : -errno;
    lock.lock();
    outcomes_.push_back({.slot = job.slot, .result = result});
    has_outcome_.notify_one();
  }
}

void PreadReader::Submit(const ReadRequest& request, ReadPriority priority) {
  files_.CheckRequest(request);
  queue_.Push(request, priority);
}

void PreadReader::Kick() {
  for (int slot = queue_.Enter(); slot >= 0; slot = queue_.Enter()) {
    const ReadRequest& request = queue_.request(slot);
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(
          {.slot = slot, .descriptor = files_.descriptor(request.file), .request = request});
    }
    has_job_.notify_one();
  }
}

void PreadReader::TakeOutcomes(bool must_wait) {
  {
    std::unique_lock lock(mutex_);
    if (must_wait) has_outcome_.wait(lock, [this] { return !outcomes_.empty(); });
    taken_.swap(outcomes_);
  }
  for (const Outcome& outcome : taken_) queue_.Finish(outcome.slot, outcome.result);
  taken_.clear();
}

size_t PreadReader::Reap(absl::Span<ReadCompletion> completions, Wait wait) {
  Kick();
  TakeOutcomes(wait == Wait::kUntilOne && !queue_.has_done() && queue_.in_device() > 0);
  const size_t count = queue_.TakeDone(completions);
  Kick();
  return count;
}

}  // namespace

std::unique_ptr<BlockReader> MakePreadReader(const BlockReader::Options& options) {
  return std::make_unique<PreadReader>(options);
}

}  // namespace stoker
