// Whether a layer's guesses are worth what they cost, judged from what came of them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cache/expert_cache.h"

namespace stoker {

// Weighs, in bytes that the drive reads, because those are what a step waits for:
//
//   gain = saved                     reads that no step had to wait for
//   cost = displaced                 residents read again that had gone for guesses in vain
//        + kVainShare * in vain      reads that nobody asked for; a drive wears and heats
//        + delay                     what was read while a step waited for others
//        + spent / wait_ns_per_byte  what steps would have waited for in the time that making the
//                                    guesses took from them
//
// After a window of reads, or of kWindowGuesses guesses if those took time, the gain must be the
// larger, else the guesses stop for `pause` steps. A window also inherits kInherited of what the
// ones before it came to, as one of 16 reads alone often says the opposite of a hundred. Guesses
// that found nothing to read kIdleGuesses times in a row stop too: they cost, and there is nothing
// to gain. Each time in a row the pause is twice as long, up to kPauseDoublings times, and what is
// tried then half as much, down to kWindowMin.
//
// Times come in as numbers: where they are those of a virtual clock, a run can be replayed.
class GuessWorth {
 public:
  static constexpr int kPauseDoublings = 5;
  static constexpr int kWindowMin = 4;
  static constexpr int kWindowGuesses = 16;
  static constexpr int kIdleGuesses = 32;
  static constexpr double kInherited = 0.75;
  static constexpr double kVainShare = 1.0 / 32;

  struct Options {
    int window = 0;  // reads
    int pause = 0;   // steps
  };
  explicit GuessWorth(const Options& options) : options_(options) {}

  // A guess took `ns` from a step.
  void Spent(int64_t ns) { spent_ns_ += ns; }
  // The layer has been asked for in a step that was guessed or could have been. `counts` are the
  // layer's since the start, `is_guessed` whether there was a guess, `wait_ns_per_byte` what steps
  // wait for a byte that is missing.
  void Asked(const HintCounts& counts, bool is_guessed, double wait_ns_per_byte);
  bool is_silent() const { return silence_ > 0; }

 private:
  int Shrunk(int count) const { return std::max(count >> doublings_, std::min(kWindowMin, count)); }
  double WorthNs(const HintCounts& now, double wait_ns_per_byte) const;
  void BeginWindow(const HintCounts& counts);
  void FallSilent();

  Options options_;
  HintCounts before_;     // at the start of the window
  double worth_ns_ = 0;   // of windows before it
  int64_t spent_ns_ = 0;  // in the window
  int guess_count_ = 0;   // in the window
  int silence_ = 0;       // steps left
  int doublings_ = 0;     // verdicts against it in a row
  int idle_guesses_ = 0;  // in a row that read nothing
  uint64_t issued_ = 0;   // when looked at last
};

}  // namespace stoker
