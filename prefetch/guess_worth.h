// Whether a layer's guesses are worth what they cost, judged from what came of them.
#pragma once

#include <cstdint>

#include "cache/expert_cache.h"

namespace stoker {

// Weighs, in bytes that the drive reads, because those are what a step waits for:
//
//   gain = used + late / 2                       reads that no step had to wait for, or half
//   cost = waste_weight * (issued - used - late)  each took a resident's slot, which may be missed
//        + delay / 2                             demand that came while a guess was being read
//
// Late and delaying reads count half because a step meets them at any point of their way. After a
// window of reads the gain must be the larger, else the guesses stop for `pause` steps, twice as
// long each time in a row that they turn out not to pay, up to kPauseDoublings times. Guesses that
// found nothing to read for kIdleGuesses in a row stop for the first pause too: they cost, and
// there is nothing to gain. Integers and sums only, so a run can be repeated.
class GuessWorth {
 public:
  static constexpr int kPauseDoublings = 5;
  static constexpr int kIdleGuesses = 64;

  struct Options {
    double waste_weight = 0;
    int window = 0;  // reads
    int pause = 0;   // steps
  };
  explicit GuessWorth(const Options& options) : options_(options) {}

  // The layer has been asked for in a step that was guessed or could have been. `counts` are the
  // layer's since the start, `is_guessed` whether there was a guess.
  void Asked(const HintCounts& counts, bool is_guessed);
  bool is_silent() const { return silence_ > 0; }

 private:
  void FallSilent(int steps);

  Options options_;
  HintCounts before_;     // at the start of the window
  int silence_ = 0;       // steps left
  int doublings_ = 0;     // verdicts against it in a row
  int idle_guesses_ = 0;  // in a row that read nothing
  uint64_t issued_ = 0;   // when looked at last
};

}  // namespace stoker
