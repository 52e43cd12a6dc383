// The predictor seam: who sees what routers decide and says what later layers will be asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"
#include "base/parameter.h"

namespace stoker {

// What a predictor is made for. Layers are the mixture layers, numbered from 0 in their order.
struct PredictorShape {
  std::vector<int32_t> expert_counts;  // by layer
  int top_k = 0;                       // experts a token uses
  int sequence_count = 1;              // sequences are numbered below this
  int rows_max = 1;                    // rows of a step that is guessed

  int layer_count() const { return static_cast<int>(expert_counts.size()); }
};

// One row of a step: one token of one sequence.
struct PredictedRow {
  int32_t sequence = 0;
  int32_t position = 0;
  int32_t token = -1;  // its id; -1: not known, as in a recorded trace
};

// Sees each step in order, on one thread, and needs no clock, so a run can be replayed. Ids are all
// that it sees of a router: they are what a recorded trace has too. A row's token is not, so those
// that go by it are marked (PredictorRow::needs_tokens). Takes its memory at construction.
class Predictor {
 public:
  virtual ~Predictor() = default;
  // A step begins. Steps of more than rows_max rows (prompts) are seen, not guessed.
  virtual void OnStep(absl::Span<const PredictedRow> /*rows*/) {}
  // A row that a drafter expects of a step to come, the sequence's first there; called before the
  // step that comes before it, or while that runs. The latest one of a sequence holds.
  virtual void OnDraft(const PredictedRow& /*row*/) {}
  // What the routers of a layer decided: [rows, top_k], a row's best first.
  virtual void OnRouting(int /*layer*/, int /*top_k*/, absl::Span<const int32_t> /*experts*/) {}
  // The model's own guess, [rows, count], best first, for a layer that Propose is asked about next.
  // Only where lookahead_layers() is not 0.
  virtual void OnLookahead(int /*target*/, int /*count*/, absl::Span<const int32_t> /*experts*/) {}

  // Layers after the present one that the model is to guess.
  virtual int lookahead_layers() const { return 0; }
  // Layers after the present one that Propose is asked about once its routing is known, beyond the
  // last layer those of the next step; 0: Propose follows OnLookahead alone. With needs_tokens it
  // is asked about the first of them as a step begins, too.
  virtual int layers_ahead() const { return 0; }
  // Experts a row that are worth acting on; what is proposed beyond them is not.
  virtual int experts_per_row() const = 0;
  // Adds to each expert of a layer how much it is expected to be asked for by the rows of this step
  // (beyond the last layer: of the next): sums over rows of confidences in [0, 1]. Experts not
  // expected at all are left as they are.
  virtual void Propose(int target, absl::Span<float> confidences) = 0;
};

struct PredictorRow {
  std::string_view name;
  std::string_view description;
  absl::Span<const ParameterRow> parameters;
  bool needs_lookahead = false;  // of the model
  bool needs_tokens = false;     // goes by the ids of rows and drafts
  // `values`: one a parameter, in range. Null: nothing is predicted.
  std::unique_ptr<Predictor> (*make)(const PredictorShape& shape, absl::Span<const double> values);
  // What it takes, but for the heap's slack.
  uint64_t (*plan_bytes)(const PredictorShape& shape, absl::Span<const double> values);
};
// In predictors/registry.cc, in order.
absl::Span<const PredictorRow> Predictors();

// A predictor as the user named it, with its parameters.
struct PredictorChoice {
  const PredictorRow* row = nullptr;
  std::vector<double> values;  // one a parameter

  bool is_none() const { return row->make == nullptr; }
  std::unique_ptr<Predictor> Make(const PredictorShape& shape) const {
    return row->make(shape, values);
  }
  uint64_t PlanBytes(const PredictorShape& shape) const {
    constexpr uint64_t kSlackBytes = 512;  // of a few allocations
    return row->plan_bytes(shape, values) + kSlackBytes;
  }
};
// `settings` of other rows are passed over. InvalidArgument: an unknown name (listing the known
// ones), an unknown parameter of the row, a value out of range (with the range and the reason).
absl::StatusOr<PredictorChoice> ChoosePredictor(std::string_view name,
                                                absl::Span<const Setting> settings = {});

}  // namespace stoker
