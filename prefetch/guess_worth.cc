// Gain against cost, window by window.
#include "prefetch/guess_worth.h"

#include <algorithm>

namespace stoker {

void GuessWorth::Asked(const HintCounts& counts, bool is_guessed, double wait_ns_per_byte) {
  if (silence_ > 0) {
    // What still comes of earlier guesses is not the next window's.
    if (--silence_ == 0) BeginWindow(counts);
    return;
  }
  if (!is_guessed) return;
  ++guess_count_;
  idle_guesses_ = counts.issued == issued_ ? idle_guesses_ + 1 : 0;
  issued_ = counts.issued;
  if (idle_guesses_ >= Shrunk(kIdleGuesses)) return FallSilent();
  const HintCounts now = counts - before_;
  const bool is_long = spent_ns_ > 0 && guess_count_ >= Shrunk(kWindowGuesses);
  if (now.issued < static_cast<uint64_t>(Shrunk(options_.window)) && !is_long) return;
  worth_ns_ = kInherited * worth_ns_ + WorthNs(now, wait_ns_per_byte);
  if (worth_ns_ <= 0) return FallSilent();
  BeginWindow(counts);
  doublings_ = 0;
}

double GuessWorth::WorthNs(const HintCounts& now, double wait_ns_per_byte) const {
  // What an earlier window's guesses brought may be used in this one.
  const uint64_t asked_bytes = std::min(now.issued_bytes, now.used_bytes + now.late_bytes);
  const double cost = static_cast<double>(now.displaced_bytes + now.delay_bytes) +
                      kVainShare * static_cast<double>(now.issued_bytes - asked_bytes);
  const double gain = static_cast<double>(now.saved_bytes) - cost;
  return gain * wait_ns_per_byte - static_cast<double>(spent_ns_);
}

void GuessWorth::BeginWindow(const HintCounts& counts) {
  before_ = counts;
  spent_ns_ = 0;
  guess_count_ = 0;
}

void GuessWorth::FallSilent() {
  silence_ = options_.pause << doublings_;
  doublings_ = std::min(doublings_ + 1, kPauseDoublings);
  idle_guesses_ = 0;
  worth_ns_ = 0;
}

}  // namespace stoker
