// Whether a layer's guesses are worth what they cost, judged from what came of them.
#pragma once

#include <cstdint>

#include "cache/expert_cache.h"

namespace stoker {

// Weighs, in bytes that the drive reads, because those are what a step waits for:
//
//   gain = saved                                  reads that no step had to wait for
//   cost = waste_weight * (issued - used - late)  each took a resident's slot, which may be missed
//        + delay                                  what was read while a step waited for others
//
// After a window of reads the gain must be the larger, else the guesses stop for `pause` steps. So
// do guesses that found nothing to read kIdleGuesses times in a row: they cost, and there is
// nothing to gain. Each time in a row the pause is twice as long, up to kPauseDoublings times, and
// the window to try again in half as long, down to kWindowMin.
class GuessWorth {
 public:
  static constexpr int kPauseDoublings = 5;
  static constexpr int kWindowMin = 4;
  static constexpr int kIdleGuesses = 32;

  struct Options {
    double waste_weight = 0;
    int window = 0;  // reads
    int pause = 0;   // steps
  };
  explicit GuessWorth(const Options& options) : options_(options), window_(options.window) {}

  // The layer has been asked for in a step that was guessed or could have been. `counts` are the
  // layer's since the start, `is_guessed` whether there was a guess.
  void Asked(const HintCounts& counts, bool is_guessed);
  bool is_silent() const { return silence_ > 0; }

 private:
  void FallSilent();

  Options options_;
  int window_;            // now
  HintCounts before_;     // at the start of the window
  int silence_ = 0;       // steps left
  int doublings_ = 0;     // verdicts against it in a row
  int idle_guesses_ = 0;  // in a row that read nothing
  uint64_t issued_ = 0;   // when looked at last
};

}  // namespace stoker
