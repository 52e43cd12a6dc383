// What a token used when it last came, it may use again, whoever wrote it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "prefetch/predictor.h"

namespace stoker {

// Remembers the experts of each layer for the tokens seen last, by their ids, of all sequences. A
// row's token is known before its first layer, so every layer can be guessed; the next step's first
// layers where a draft says which token is expected. Tokens are kept in sets of kSetTokens, of each
// the ones used last. Memory: two bytes a layer and expert for each, 1 MB for 1024 tokens of 58
// layers with 8. Of a prompt the last kRowsMax rows teach.
class TokenPredictor final : public Predictor {
 public:
  static constexpr int kSetTokens = 8;
  static constexpr int kRowsMax = 512;
  static constexpr ParameterRow kParameters[] = {
      {.name = "tokens",
       .value = 1024,
       .minimum = 8,
       .maximum = 262144,
       .is_whole = true,
       .reason = "token ids whose experts are kept; most of a text is tokens that it had not long "
                 "ago, and more take memory from the experts"},
      {.name = "layers",
       .value = 1,
       .minimum = 1,
       .maximum = 4,
       .is_whole = true,
       .reason = "the guess is as good for every layer ahead; more layers leave more time to read, "
                 "and hold more slots meanwhile"},
  };
  static std::unique_ptr<Predictor> Make(const PredictorShape& shape,
                                         absl::Span<const double> values);
  static uint64_t PlanBytes(const PredictorShape& shape, absl::Span<const double> values);
  TokenPredictor(const PredictorShape& shape, int tokens, int layers);

  void OnStep(absl::Span<const PredictedRow> rows) override;
  void OnDraft(const PredictedRow& row) override;
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts) override;
  int layers_ahead() const override { return layers_; }
  int experts_per_row() const override { return shape_.top_k; }
  void Propose(int target, absl::Span<float> confidences) override;

 private:
  static constexpr uint16_t kNone = 0xFFFF;  // and an expert numbered so high is not kept

  struct Entry {
    int32_t token = -1;
    uint64_t used = 0;  // when last, in rows
  };
  struct LearningRow {
    int32_t token = -1;
    size_t entry = 0;
  };

  size_t FirstOfSet(int32_t token) const;
  size_t Keep(int32_t token);
  void Add(size_t entry, int32_t token, int layer, absl::Span<float> confidences) const;
  size_t IdsOf(size_t entry, int layer) const {
    return (entry * shape_.expert_counts.size() + static_cast<size_t>(layer)) *
           static_cast<size_t>(shape_.top_k);
  }

  const PredictorShape shape_;
  const int layers_;
  std::vector<Entry> entries_;  // [sets, kSetTokens]
  std::vector<uint16_t> ids_;   // [entries, layers, top_k], best first; kNone: no more
  std::vector<LearningRow> rows_;
  std::vector<int32_t> next_positions_;  // of the step, by sequence; -1: takes no part
  std::vector<PredictedRow> drafts_;     // by sequence
  int layer_ = -1;                       // routed last in this step
  uint64_t used_ = 0;
};

}  // namespace stoker
