// Where the experts of a recorded run were when they were asked for, and what guesses were worth.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/trace/trace.h"

namespace stoker {

// Experts asked for, once a step and layer however many rows chose one; hits + misses of them all.
// (Once a use in another program's trace that notes it for each use.)
struct TierHits {
  uint64_t vram = 0;
  uint64_t ram = 0;
  uint64_t misses = 0;
  uint64_t asked() const { return vram + ram + misses; }
  double hit_rate() const {
    return asked() == 0 ? 0 : static_cast<double>(vram + ram) / static_cast<double>(asked());
  }
};

struct LayerResidency {
  int layer = 0;
  // A hit counts as VRAM if the expert was there when the step began: within a step the trace does
  // not say whether it was asked for before or after it moved.
  TierHits hits;
  uint64_t read_bytes = 0;  // for a step that waited
};

// Guesses for one layer. What a router was guessed to choose (lookahead) is judged against what it
// chose in the same step: recall is the share of its choices that were guessed, precision the share
// of guesses that it chose. What came of hints is counted by the store.
struct LayerPrefetch {
  int layer = 0;
  int64_t guessed = 0;
  int64_t chosen = 0;  // by rows for which there was a guess
  int64_t right = 0;
  uint64_t hints_read = 0;     // experts that arrived on a guess
  uint64_t hints_used = 0;     // of these and of those on their way: asked for by a step
  uint64_t hints_late = 0;     // of the used: a step had to wait for the rest of it
  uint64_t hints_wasted = 0;   // evicted unused
  uint64_t hints_dropped = 0;  // given up before they were read
  uint64_t wasted_bytes = 0;   // of those never used and of what was read of those dropped

  double recall() const { return chosen == 0 ? 0 : double(right) / double(chosen); }
  double precision() const { return guessed == 0 ? 0 : double(right) / double(guessed); }
  double on_time() const {
    return hints_used == 0 ? 0 : double(hints_used - hints_late) / double(hints_used);
  }
};

struct Residency {
  bool is_known = false;  // the trace says what was resident
  TierHits decode;        // of steps without prompt rows
  TierHits prompt;        // of all others
  uint64_t decode_read_bytes = 0;
  int64_t decode_rows = 0;
  uint64_t read_bytes = 0;
  int64_t drive_busy_ns = 0;
  uint64_t copied_in_bytes = 0, copied_out_bytes = 0;
  uint64_t host_experts = 0, device_experts = 0;
  bool layers_known = false;  // the trace says it by layer
  std::vector<LayerResidency> layers;
  bool has_lookahead = false;
  bool has_hints = false;
  std::vector<LayerPrefetch> prefetch;
};

Residency AnalyzeResidency(const Trace& trace);

}  // namespace stoker
