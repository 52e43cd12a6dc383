// What a run cost: gathers the records of its steps into the numbers that people ask for.
#pragma once

#include <cstdint>
#include <vector>

#include "base/time_ledger.h"
#include "runtime/engine.h"

namespace stoker {

// Steps of one kind. A step with any prompt row is a prompt step, whole; all others are decode
// steps.
struct PhaseSummary {
  int64_t steps = 0;
  int64_t tokens = 0;  // prompt rows of prompt steps; tokens that came of decode steps
  int64_t wall_ns = 0;
  CauseTimes causes = {};  // sums to wall_ns
  uint64_t hits = 0;       // experts
  uint64_t vram_hits = 0;  // of the hits, in the device's memory
  uint64_t misses = 0;
  uint64_t read_bytes = 0;
  HintCounts hints;
  uint64_t copied_in_bytes = 0;  // to the device, and from it
  uint64_t copied_out_bytes = 0;
  uint64_t host_experts = 0;  // computed by the processor, and by the device
  uint64_t device_experts = 0;
  int64_t drive_busy_ns = 0;
  int64_t system_ns = 0;  // system CPU time of the process, over all threads

  double tokens_per_second() const;  // 0 when there were none
  double hit_rate() const;  // share of experts asked for, in [0, 1]; 0 when there were none
  // System CPU time by wall time: 1 is one thread in the kernel all the time. 0 when there was no
  // step.
  double system_share() const;
};

// Time between two tokens of one sequence, over all sequences, where tokens that come of one step
// count as one: exact percentiles by nearest rank
// (the least stored value that at least this share of all values do not exceed). 0 when there were
// none.
struct GapSummary {
  int64_t count = 0;
  int64_t p50_ns = 0;
  int64_t p90_ns = 0;
  int64_t p99_ns = 0;
  int64_t max_ns = 0;
};

struct RunSummary {
  PhaseSummary prompt;
  PhaseSummary decode;
  PhaseSummary all;            // both; tokens are those generated
  int64_t prompt_rows = 0;     // all prompt tokens
  int64_t generated = 0;       // all generated tokens
  int64_t first_token_ns = 0;  // engine time until the first generated token; 0 when there was none
  GapSummary gaps;
  StepRecord slowest;  // the step behind gaps.max_ns, its causes and worst misses; wall_ns 0 when
                       // there was none
};

// Time is engine time, the sum of the steps: what the caller does between two steps does not count.
// Every decoding sequence takes part in every step, so the time between two of its tokens is the
// later step's wall time. Keeps 8 bytes a token generated.
class RunStatistics {
 public:
  void Add(const StepRecord& step);
  RunSummary Summarize() const;

 private:
  RunSummary totals_;  // gaps are filled in by Summarize
  std::vector<int64_t> gaps_ns_;
};

}  // namespace stoker
