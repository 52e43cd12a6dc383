// The experts of each sequence's last token, layer by layer.
#include "prefetch/predictors/previous_token.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {

std::unique_ptr<Predictor> PreviousTokenPredictor::Make(const PredictorShape& shape,
                                                        absl::Span<const double> values) {
  return std::make_unique<PreviousTokenPredictor>(shape, static_cast<int>(values[0]));
}

uint64_t PreviousTokenPredictor::PlanBytes(const PredictorShape& shape, absl::Span<const double>) {
  const auto sequences = static_cast<uint64_t>(shape.sequence_count);
  const uint64_t ids = shape.expert_counts.size() * static_cast<uint64_t>(shape.top_k);
  return sizeof(PreviousTokenPredictor) + shape.expert_counts.size() * sizeof(int32_t) +
         sequences * (ids + 1) * sizeof(int32_t);
}

PreviousTokenPredictor::PreviousTokenPredictor(const PredictorShape& shape, int layers)
    : shape_(shape),
      layers_(layers),
      memory_(static_cast<size_t>(shape.sequence_count) * shape.expert_counts.size() *
                  static_cast<size_t>(shape.top_k),
              -1),
      last_rows_(static_cast<size_t>(shape.sequence_count), -1) {}

void PreviousTokenPredictor::OnStep(absl::Span<const PredictedRow> rows) {
  std::fill(last_rows_.begin(), last_rows_.end(), -1);
  for (size_t row = 0; row < rows.size(); ++row) {
    CHECK(rows[row].sequence >= 0 && rows[row].sequence < shape_.sequence_count);
    last_rows_[static_cast<size_t>(rows[row].sequence)] = static_cast<int32_t>(row);
    if (rows[row].position > 0) continue;
    int32_t* const begin = Memory(rows[row].sequence, 0);  // another sequence has come
    std::fill(begin, begin + shape_.expert_counts.size() * static_cast<size_t>(shape_.top_k), -1);
  }
}

void PreviousTokenPredictor::OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) {
  const int count = std::min(top_k, shape_.top_k);
  for (int sequence = 0; sequence < shape_.sequence_count; ++sequence) {
    const int32_t row = last_rows_[static_cast<size_t>(sequence)];
    if (row < 0) continue;
    const int32_t* const ids = experts.data() + static_cast<ptrdiff_t>(row) * top_k;
    std::copy(ids, ids + count, Memory(sequence, layer));
  }
}

void PreviousTokenPredictor::Propose(int target, absl::Span<float> confidences) {
  for (int sequence = 0; sequence < shape_.sequence_count; ++sequence) {
    if (last_rows_[static_cast<size_t>(sequence)] < 0) continue;
    const int32_t* const ids = Memory(sequence, target);
    for (int rank = 0; rank < shape_.top_k && ids[rank] >= 0; ++rank) {
      confidences[static_cast<size_t>(ids[rank])] +=
          1.0f - static_cast<float>(rank) / static_cast<float>(shape_.top_k);
    }
  }
}

}  // namespace stoker
