// Runs the prompts of a batch that have no answer yet, many at once.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "cli/batch/batch_input.h"
#include "cli/batch/batch_output.h"
#include "cli/batch/batch_progress.h"
#include "runtime/engine.h"
#include "runtime/statistics.h"

namespace stoker {

// Keeps `sequences_max` prompts in the engine, in the order of the input, and writes each answer
// when it is whole. What a prompt gives does not depend on its neighbours, so neither on where a
// run before this one ended.
//
// A prompt that cannot be run (longer than the context, say) gets its error as its answer. A step
// that fails leaves its prompts without one, for the next run; a few such in a row end this run.
class BatchRun {
 public:
  struct Parts {
    Engine& engine;  // idle, opened for `sequences_max`
    const BatchInput& input;
    BatchOutput& output;
    const Clock& clock;
    int sequences_max = 1;
    std::function<bool()> is_interrupted;                 // asked between steps
    std::function<void(const BatchProgress&)> show = {};  // called after each step
  };
  explicit BatchRun(const Parts& parts);

  // OK when every prompt has its answer or its error. Cancelled when interrupted; otherwise the
  // first error of the output, or of a step, the latter with the number of prompts left over. In
  // every case what is in the output counts, and the engine is idle if it is still usable.
  absl::Status Run();

  BatchProgress progress() const;
  RunSummary Summarize() const { return statistics_.Summarize(); }

 private:
  struct Running {
    int64_t index = 0;  // of the input
    BatchRequest request;
    BatchAnswer answer;
  };

  absl::Status StepUntilDone();
  absl::Status Fill();
  absl::Status Start(int64_t index);
  absl::Status Take(const TokenEvent& event);
  absl::Status NoteStepError();
  absl::Status SyncNowAndThen();
  void Drain();

  Parts parts_;
  RunStatistics statistics_;
  absl::flat_hash_map<SequenceId, Running> running_;
  int64_t next_index_ = 0;  // of the input: all before it are done, running, or left over
  int64_t tokens_ = 0;
  int64_t left_over_count_ = 0;
  int failed_steps_in_a_row_ = 0;
  absl::Status first_step_error_;
  const int64_t done_before_count_;
  const int64_t start_ns_;
  int64_t synced_ns_;
};

}  // namespace stoker
