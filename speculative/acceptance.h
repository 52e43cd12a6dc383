// How often drafts are right, by their place in the draft.
#pragma once

#include <algorithm>
#include <array>

#include "speculative/drafter.h"

namespace stoker {

// Counts, which fade, of drafts that were checked because all before them in their draft were
// right. One for a sequence leans on one for all sequences as long as it has seen little.
class Acceptance {
 public:
  // Drafts that are remembered, about: text changes its nature every few sentences.
  static constexpr double kMemory = 24;
  explicit Acceptance(double memory = kMemory) : keep_(1 - 1 / memory) {}

  // Of a draft of `drafted` tokens the first `accepted` were right. What was not seen of places
  // further on fades all the same: it is of another part of the text.
  void Observe(int drafted, int accepted) {
    Fade(keep_);
    for (int place = 0; place < std::min(drafted, accepted + 1); ++place) {
      Count& count = counts_[static_cast<size_t>(place)];
      count.checked += 1;
      count.right += place < accepted ? 1 : 0;
    }
  }
  void Forget() { counts_ = {}; }
  // What was seen so far counts for less.
  void Fade(double keep) {
    for (Count& count : counts_) {
      count.checked *= keep;
      count.right *= keep;
    }
  }

  // Of the draft at `place`, from 0, if all before it are right. Places never checked are as the
  // one before; the first is `prior`, which weighs like kPriorWeight drafts.
  double At(int place, double prior) const {
    double rate = prior;
    for (int p = 0; p <= place; ++p) {
      const Count& count = counts_[static_cast<size_t>(p)];
      rate = (count.right + kPriorWeight * rate) / (count.checked + kPriorWeight);
    }
    return rate;
  }
  // As At, where `others` says what to expect.
  double At(int place, const Acceptance& others, double prior) const {
    const Count& count = counts_[static_cast<size_t>(place)];
    return (count.right + kPriorWeight * others.At(place, prior)) / (count.checked + kPriorWeight);
  }
  double checked(int place) const { return counts_[static_cast<size_t>(place)].checked; }

 private:
  static constexpr double kPriorWeight = 2;
  struct Count {
    double checked = 0;
    double right = 0;
  };
  double keep_;
  std::array<Count, kDraftLengthMax> counts_ = {};
};

}  // namespace stoker
