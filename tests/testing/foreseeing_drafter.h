// A drafter that knows the text to come, so that acceptance can be set.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "speculative/drafter.h"

namespace stoker {

// Drafts texts that are known, by the slot of the sequence; each draft is another token than the
// right one with the chance `wrong`, drawn by seed.
class ForeseeingDrafter final : public Drafter {
 public:
  ForeseeingDrafter(std::vector<std::vector<int32_t>> texts, double wrong, int vocab_count)
      : texts_(std::move(texts)), wrong_(wrong), vocab_count_(vocab_count) {}

  absl::StatusOr<bool> Draft(absl::Span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      const std::vector<int32_t>& text = texts_[static_cast<size_t>(job.slot)];
      for (; job.drafted < job.wanted; ++job.drafted) {
        const auto at = static_cast<size_t>(job.known + job.drafted);
        if (at >= text.size()) break;
        const bool is_wrong = std::uniform_real_distribution<>()(random_) < wrong_;
        job.tokens[at] = is_wrong ? (text[at] + 1) % vocab_count_ : text[at];
      }
    }
    return false;
  }
  bool drafts_ahead() const override { return true; }

 private:
  const std::vector<std::vector<int32_t>> texts_;  // prompt and what follows, by slot
  const double wrong_;
  const int vocab_count_;
  std::mt19937 random_{5};
};

}  // namespace stoker
