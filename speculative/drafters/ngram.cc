// A table of where each n-gram ended last.
#include "speculative/drafters/ngram.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace stoker {
namespace {

// Twice the n-grams that a full context holds, so that most keep a place of their own.
size_t TableCount(int context, int lengths) {
  return std::bit_ceil(static_cast<size_t>(context) * static_cast<size_t>(lengths) * 2);
}

int LengthCount(absl::Span<const double> values) {
  return std::max(1, static_cast<int>(values[0]) - static_cast<int>(values[1]) + 1);
}

}  // namespace

std::unique_ptr<Drafter> NgramDrafter::Make(DrafterParts parts, absl::Span<const double> values) {
  return std::make_unique<NgramDrafter>(parts, static_cast<int>(values[0]),
                                        static_cast<int>(values[1]));
}

uint64_t NgramDrafter::PlanBytes(const DrafterParts& parts, const ModelConfig& /*target*/,
                                 absl::Span<const double> values) {
  const uint64_t slot_bytes =
      (static_cast<uint64_t>(parts.context) + TableCount(parts.context, LengthCount(values))) *
      sizeof(int32_t);
  return static_cast<uint64_t>(parts.sequence_count) * (slot_bytes + sizeof(Slot));
}

// A shortest above the longest means the longest alone.
NgramDrafter::NgramDrafter(const DrafterParts& parts, int longest, int shortest)
    : longest_(longest),
      shortest_(std::min(shortest, longest)),
      mask_(TableCount(parts.context, longest_ - shortest_ + 1) - 1),
      slots_(static_cast<size_t>(parts.sequence_count)) {
  for (Slot& slot : slots_) {
    slot.tokens.reserve(static_cast<size_t>(parts.context));
    slot.ends.assign(mask_ + 1, 0);
  }
}

absl::StatusOr<bool> NgramDrafter::Draft(absl::Span<DraftJob> jobs) {
  for (DraftJob& job : jobs) {
    Slot& slot = slots_[static_cast<size_t>(job.slot)];
    Follow(slot, {job.tokens, static_cast<size_t>(job.known)});
    if (job.drafted >= job.wanted) continue;
    int from = Find(slot, job.history());
    if (from == 0) continue;
    for (; job.drafted < job.wanted; ++job.drafted, ++from) {
      job.tokens[job.known + job.drafted] = job.tokens[from];
    }
  }
  return false;
}

// Enters what is new. Tokens that differ from the ones entered are another sequence's: then all
// begins again.
void NgramDrafter::Follow(Slot& slot, absl::Span<const int32_t> known) {
  const size_t entered = slot.tokens.size();
  if (entered > known.size() ||
      !std::equal(slot.tokens.begin(), slot.tokens.end(), known.begin())) {
    slot.tokens.clear();
    std::fill(slot.ends.begin(), slot.ends.end(), 0);
  }
  // The n-grams that end with the last token have no earlier occurrence to be: they are entered
  // when a further one is known.
  for (size_t end = slot.tokens.size(); end + 1 < known.size(); ++end) {
    slot.tokens.push_back(known[end]);
    const size_t count = end + 1;
    for (int length = shortest_; length <= longest_; ++length) {
      const auto n = static_cast<size_t>(length);
      if (n > count) break;
      slot.ends[Place(known.subspan(count - n, n))] = static_cast<int32_t>(count);
    }
  }
}

int NgramDrafter::Find(const Slot& slot, absl::Span<const int32_t> history) const {
  for (int length = longest_; length >= shortest_; --length) {
    const auto n = static_cast<size_t>(length);
    if (n >= history.size()) continue;
    const absl::Span<const int32_t> last = history.subspan(history.size() - n);
    const auto end = static_cast<size_t>(slot.ends[Place(last)]);
    if (end < n || end >= history.size()) continue;
    if (std::equal(last.begin(), last.end(), history.begin() + (end - n))) {
      return static_cast<int>(end);
    }
  }
  return 0;
}

// FNV-1a over the tokens and their number (Fowler, Noll, Vo).
size_t NgramDrafter::Place(absl::Span<const int32_t> ngram) const {
  uint64_t hash = 14695981039346656037u ^ ngram.size();
  for (const int32_t token : ngram) hash = (hash ^ static_cast<uint32_t>(token)) * 1099511628211u;
  return static_cast<size_t>(hash ^ (hash >> 32)) & mask_;
}

}  // namespace stoker
