// Counts how often each expert is used and keeps the profile file up to date.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/expert_catalog.h"
#include "model/step_observer.h"
#include "runtime/usage_profile.h"

namespace stoker {

// Counting is one addition a use. The file is written by a thread of its own, every kSavePeriodNs
// of steps and when the engine has nothing left to do: a step only copies the counts (4 bytes an
// expert) and wakes it. It allocates nothing meanwhile. Observer calls and EndStep are of one
// thread.
class UsageRecorder final : public StepObserver {
 public:
  static constexpr int64_t kSavePeriodNs = 60'000'000'000;

  struct Options {
    std::string path;
    uint64_t identity = 0;
    UsageProfile before;  // what the file held; without may_replace nothing is written
  };
  // `clock` must outlive it.
  UsageRecorder(const ExpertCatalog& catalog, Options options, const Clock& clock);
  // Saves what has not been, and waits for it.
  ~UsageRecorder() override;

  const UsageProfile& before() const { return options_.before; }

  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override;
  // After each step. `is_idle`: none will follow soon; then waits until the file is written.
  void EndStep(bool is_idle);
  // Of the saving so far; a failed one is tried again with the next.
  absl::Status status();

 private:
  void Submit();
  void WaitUntilSaved(std::unique_lock<std::mutex>& lock);
  void Run();

  const Options options_;
  const Clock& clock_;
  std::vector<int64_t> first_key_;  // by transformer layer; -1: without experts
  std::vector<uint64_t> counts_;    // by key, of this run
  bool is_changed_ = false;         // since they were submitted
  int64_t submitted_ns_ = 0;

  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::vector<uint64_t> submitted_;
  bool is_pending_ = false;  // submitted and not yet on its way
  bool is_saving_ = false;
  bool is_ending_ = false;
  absl::Status status_;
  std::thread thread_;
};

}  // namespace stoker
