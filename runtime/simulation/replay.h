// What a replay counts, and the shape of the time that it predicts.
#pragma once

#include <cstdint>
#include <vector>

namespace stoker {

// Of one phase. hits + misses = accesses.
struct PhaseCounts {
  uint64_t accesses = 0;
  uint64_t hits = 0;
  uint64_t vram_hits = 0;  // of these, in VRAM
  uint64_t misses = 0;
  uint64_t read_bytes = 0;       // whatever was read meanwhile, guesses included
  uint64_t copied_in_bytes = 0;  // to the device, and from it
  uint64_t copied_out_bytes = 0;

  double hit_rate() const {
    return accesses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(accesses);
  }
};

struct StepCounts {
  uint32_t hits = 0;
  uint32_t vram_hits = 0;
  uint32_t misses = 0;
};

struct ReplayResult {
  // Requests of decoding, and before it: of rows of a prompt, or (see UseGrouping) of steps that
  // have some.
  PhaseCounts decode;
  PhaseCounts prompt;
  uint64_t hint_bytes = 0;        // experts read on guesses, over both
  std::vector<StepCounts> steps;  // as the trace's
  // Predicted, of the steps that decode alone, in order; and the rows of all of them together.
  std::vector<int64_t> step_ns;
  int64_t decode_rows = 0;
};

}  // namespace stoker
