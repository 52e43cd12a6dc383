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
  if (idle_guesses_ >= kIdleGuesses) return FallSilent();
  const HintCounts now = counts - before_;
  if (now.issued < static_cast<uint64_t>(window_)) return;
  before_ = counts;
  // What an earlier window's guesses brought may be used in this one.
  const uint64_t asked_bytes = std::min(now.issued_bytes, now.used_bytes + now.late_bytes);
  const double cost = options_.waste_weight * static_cast<double>(now.issued_bytes - asked_bytes) +
                      static_cast<double>(now.delay_bytes);
  if (static_cast<double>(now.saved_bytes) <= cost) return FallSilent();
  doublings_ = 0;
  window_ = options_.window;
}

void GuessWorth::FallSilent() {
  silence_ = options_.pause << doublings_;
  doublings_ = std::min(doublings_ + 1, kPauseDoublings);
  window_ = std::max(window_ / 2, std::min(kWindowMin, options_.window));
  idle_guesses_ = 0;
}

}  // namespace stoker
