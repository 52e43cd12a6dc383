// Time between tokens in a recorded run: how long, how often, by which cause, and the worst of it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/time_ledger.h"
#include "runtime/trace/trace.h"

namespace stoker {

// Buckets of steps that a picture over time is drawn of, at most; and bins of a histogram.
inline constexpr int kTimeBucketsMax = 240;
inline constexpr int kHistogramBinsMax = 48;
// A spike is a decode step that took longer than this many medians; so many are kept, worst first.
inline constexpr double kSpikeMedians = 1.5;
inline constexpr size_t kSpikesMax = 20;

// Every decoding sequence takes part in every step, so the time between two of its tokens is the
// later step's wall time (as in RunStatistics); tokens that come of one step count as one.
// Percentiles by nearest rank over those gaps.
struct GapPercentiles {
  int64_t count = 0;
  int64_t p50_ns = 0, p90_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0;
};

// Decode steps [first_step, first_step + step_count), counted from 0 over the decode steps.
struct TimeBucket {
  int64_t first_step = 0;
  int64_t step_count = 0;
  int64_t median_ns = 0;
  int64_t max_ns = 0;
  CauseTimes causes = {};  // mean of a step; they sum to its mean wall time, but for rounding
};

// Gaps in [from_ns, to_ns); the last bin holds its end too. Bins are of equal width in log time.
struct GapBin {
  int64_t from_ns = 0;
  int64_t to_ns = 0;
  int64_t count = 0;
};

struct Spike {
  int64_t decode_step = 0;  // as in TimeBucket
  int64_t step = 0;         // as recorded
  int64_t wall_ns = 0;
  CauseTimes causes = {};
  Cause excess_cause = Cause::kOther;  // whose time lies furthest above its median
  int64_t excess_ns = 0;               // by so much
  uint64_t hits = 0, misses = 0;
  std::vector<MissRecord> worst_misses;  // slowest first; a few
};

struct Latency {
  bool is_timed = false;  // the trace says how long steps took
  int64_t decode_steps = 0;
  int64_t tokens = 0;  // one a decoding row, and drafts that were right
  int64_t wall_ns = 0;
  int64_t prompt_rows = 0;
  int64_t prompt_wall_ns = 0;
  GapPercentiles gaps;
  CauseTimes causes = {};          // of decode steps, summed
  CauseTimes slowest_causes = {};  // of the slowest hundredth of them, at least one, summed
  int64_t bucket_steps = 0;        // decode steps a bucket; 1 for a short run
  std::vector<TimeBucket> buckets = {};
  std::vector<GapBin> histogram = {};
  std::vector<Spike> spikes = {};

  double tokens_per_second() const {
    return wall_ns == 0 ? 0 : static_cast<double>(tokens) * 1e9 / static_cast<double>(wall_ns);
  }
};

Latency AnalyzeLatency(const Trace& trace);

}  // namespace stoker
