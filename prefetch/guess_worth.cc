// Gain against cost, window by window.
#include "prefetch/guess_worth.h"

#include <algorithm>

namespace stoker {

void GuessWorth::Asked(const HintCounts& counts, bool is_guessed) {
  if (silence_ > 0) {
    // What still comes of earlier guesses is not the next window's.
    if (--silence_ == 0) before_ = counts;
    return;
  }
  if (!is_guessed) return;
  idle_guesses_ = counts.issued == issued_ ? idle_guesses_ + 1 : 0;
  issued_ = counts.issued;
  if (idle_guesses_ >= kIdleGuesses) return FallSilent(options_.pause);
  if (counts.issued - before_.issued < static_cast<uint64_t>(options_.window)) return;
  const auto used = static_cast<double>(counts.used_bytes - before_.used_bytes);
  const auto late = static_cast<double>(counts.late_bytes - before_.late_bytes);
  const auto read = static_cast<double>(counts.issued_bytes - before_.issued_bytes);
  const auto delay = static_cast<double>(counts.delay_bytes - before_.delay_bytes);
  // What an earlier window's guesses brought may be used in this one.
  const double wasted = std::max(0.0, read - used - late);
  before_ = counts;
  if (used + late / 2 > options_.waste_weight * wasted + delay / 2) {
    doublings_ = 0;
    return;
  }
  FallSilent(options_.pause << doublings_);
  doublings_ = std::min(doublings_ + 1, kPauseDoublings);
}

void GuessWorth::FallSilent(int steps) {
  silence_ = steps;
  idle_guesses_ = 0;
}

}  // namespace stoker
