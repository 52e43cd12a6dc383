// A table of tokens, a few to a set, with the experts of each layer.
#include "prefetch/predictors/token.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {
namespace {

// Whole sets.
size_t EntryCount(int tokens) {
  constexpr auto kSet = static_cast<size_t>(TokenPredictor::kSetTokens);
  return (static_cast<size_t>(tokens) + kSet - 1) / kSet * kSet;
}

}  // namespace

std::unique_ptr<Predictor> TokenPredictor::Make(const PredictorShape& shape,
                                                absl::Span<const double> values) {
  return std::make_unique<TokenPredictor>(shape, static_cast<int>(values[0]),
                                          static_cast<int>(values[1]));
}

uint64_t TokenPredictor::PlanBytes(const PredictorShape& shape, absl::Span<const double> values) {
  const uint64_t ids = shape.expert_counts.size() * static_cast<uint64_t>(shape.top_k);
  return sizeof(TokenPredictor) + shape.expert_counts.size() * sizeof(int32_t) +
         EntryCount(static_cast<int>(values[0])) * (sizeof(Entry) + ids * sizeof(uint16_t)) +
         kRowsMax * sizeof(LearningRow) +
         static_cast<uint64_t>(shape.sequence_count) * (sizeof(int32_t) + sizeof(PredictedRow));
}

TokenPredictor::TokenPredictor(const PredictorShape& shape, int tokens, int layers)
    : shape_(shape),
      layers_(layers),
      entries_(EntryCount(tokens)),
      ids_(entries_.size() * shape.expert_counts.size() * static_cast<size_t>(shape.top_k), kNone),
      next_positions_(static_cast<size_t>(shape.sequence_count), -1),
      drafts_(static_cast<size_t>(shape.sequence_count)) {
  rows_.reserve(kRowsMax);
}

void TokenPredictor::OnStep(absl::Span<const PredictedRow> rows) {
  layer_ = -1;
  std::fill(next_positions_.begin(), next_positions_.end(), -1);
  for (const PredictedRow& row : rows) {
    CHECK(row.sequence >= 0 && row.sequence < shape_.sequence_count);
    const auto sequence = static_cast<size_t>(row.sequence);
    next_positions_[sequence] = row.position + 1;
    if (row.position == 0) drafts_[sequence] = {};  // another sequence has come
  }
  rows_.clear();
  const size_t count = std::min(rows.size(), static_cast<size_t>(kRowsMax));
  for (const PredictedRow& row : rows.last(count)) {
    rows_.push_back({.token = row.token, .entry = row.token >= 0 ? Keep(row.token) : 0});
  }
}

void TokenPredictor::OnDraft(const PredictedRow& row) {
  CHECK(row.sequence >= 0 && row.sequence < shape_.sequence_count);
  drafts_[static_cast<size_t>(row.sequence)] = row;
}

void TokenPredictor::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) {
  layer_ = layer;
  const auto width = static_cast<size_t>(top_k);
  CHECK(experts.size() >= rows_.size() * width);
  const int32_t* ids = experts.last(rows_.size() * width).data();
  for (const LearningRow& row : rows_) {
    // A later row of the step may have taken the entry.
    if (row.token >= 0 && entries_[row.entry].token == row.token) {
      uint16_t* const kept = ids_.data() + IdsOf(row.entry, layer);
      for (int rank = 0; rank < std::min(top_k, shape_.top_k); ++rank) {
        kept[rank] = static_cast<uint16_t>(std::min<int32_t>(ids[rank], kNone));
      }
    }
    ids += width;
  }
}

// What is behind the running layer is asked about for the next step.
void TokenPredictor::Propose(int target, absl::Span<float> confidences) {
  if (target > layer_) {
    for (const LearningRow& row : rows_) Add(row.entry, row.token, target, confidences);
    return;
  }
  for (size_t sequence = 0; sequence < drafts_.size(); ++sequence) {
    const PredictedRow& draft = drafts_[sequence];
    if (draft.token < 0 || draft.position != next_positions_[sequence]) continue;
    const size_t first = FirstOfSet(draft.token);
    for (size_t entry = first; entry < first + kSetTokens; ++entry) {
      Add(entry, draft.token, target, confidences);
    }
  }
}

// Adds what the entry says if it is the token's.
void TokenPredictor::Add(size_t entry, int32_t token, int layer,
                         absl::Span<float> confidences) const {
  if (token < 0 || entries_[entry].token != token) return;
  const uint16_t* const ids = ids_.data() + IdsOf(entry, layer);
  for (int rank = 0; rank < shape_.top_k && ids[rank] != kNone; ++rank) {
    confidences[ids[rank]] += 1.0f - static_cast<float>(rank) / static_cast<float>(shape_.top_k);
  }
}

// Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4).
size_t TokenPredictor::FirstOfSet(int32_t token) const {
  const uint64_t hash = static_cast<uint32_t>(token) * 0x9E3779B97F4A7C15u;
  return static_cast<size_t>((hash >> 32) % (entries_.size() / kSetTokens)) * kSetTokens;
}

// The token's entry; a new one takes that of its set which was used longest ago.
size_t TokenPredictor::Keep(int32_t token) {
  const size_t first = FirstOfSet(token);
  size_t oldest = first;
  ++used_;
  for (size_t entry = first; entry < first + kSetTokens; ++entry) {
    if (entries_[entry].token == token) {
      entries_[entry].used = used_;
      return entry;
    }
    if (entries_[entry].used < entries_[oldest].used) oldest = entry;
  }
  entries_[oldest] = {.token = token, .used = used_};
  std::fill_n(ids_.begin() + static_cast<ptrdiff_t>(IdsOf(oldest, 0)), IdsOf(1, 0), kNone);
  return oldest;
}

}  // namespace stoker
