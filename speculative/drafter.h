// The drafter seam: who guesses the tokens that follow, so that one step can check several.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/parameter.h"
#include "base/time_ledger.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace stoker {

// Drafts of one sequence are at most this long.
inline constexpr int kDraftLengthMax = 16;

// Chooses a token from logits as the engine will. Its noise is keyed by position, so a drafter that
// chooses the same way is right wherever its logits are near enough, at any temperature.
class TokenChooser {
 public:
  virtual ~TokenChooser() = default;
  // The token that follows `history`, all tokens of the sequence in `slot` so far. May change
  // `logits`. Fails when no logit is finite.
  virtual absl::StatusOr<int32_t> Choose(int slot, absl::Span<float> logits,
                                         absl::Span<const int32_t> history) = 0;
};

// One sequence to draft for. tokens[0, known) are certain or being verified, and
// tokens[known, known + drafted) are drafts; there is room for `wanted` drafts.
struct DraftJob {
  int slot = 0;
  int32_t* tokens = nullptr;
  int known = 0;
  int drafted = 0;
  int wanted = 0;

  absl::Span<const int32_t> history() const {
    return {tokens, static_cast<size_t>(known + drafted)};
  }
};

// Rows of one sequence that a step of the model has computed and that stay.
struct VerifiedRows {
  int slot = 0;
  int first = 0;                     // position of the first row
  absl::Span<const int32_t> tokens;  // known now, from `first` on: rows, then the ones that follow
  int rows = 0;
  const float* normed = nullptr;  // [rows, hidden], after the final norm
};

// Guesses tokens. Nothing that it does shows in what is generated. One thread; takes its memory at
// construction.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // Adds drafts to the jobs: one to each that wants more and can be continued, or all at once where
  // that costs nothing. Returns whether calling again would add more; a job that gets none is left
  // short. Fails when its own model or store does; the jobs' drafts so far stand.
  virtual absl::StatusOr<bool> Draft(absl::Span<DraftJob> jobs) = 0;
  // kMtp: told of every row of the model that it drafts for.
  virtual void OnRows(const VerifiedRows& /*rows*/) {}
  // Whether it may draft while a step of the model is under way.
  virtual bool drafts_ahead() const { return false; }
};

// A model of the drafter's own, with its attention cache.
struct DraftModel {
  std::unique_ptr<Model> model;
  std::unique_ptr<KvCache> kv;
};

// What drafters are made from; each takes what it needs.
struct DrafterParts {
  int sequence_count = 1;  // slots are numbered below it
  int context = 0;         // tokens of the longest sequence
  int length_max = 0;      // drafts of a job
  int rows_max = 0;        // of a step of the drafter's model
  int vocab_count = 0;
  TokenChooser* chooser = nullptr;
  TimeLedger* ledger = nullptr;  // may be null
  ExpertProvider* experts = nullptr;
  DraftModel own;           // kModel: the draft model; kMtp: the cache alone
  Model* target = nullptr;  // kMtp: the model that is drafted for
};

struct DrafterRow {
  enum class Needs : uint8_t { kNothing, kModel, kMtp };

  std::string_view name;
  std::string_view description;
  Needs needs = Needs::kNothing;
  absl::Span<const ParameterRow> parameters;
  // `values`: one a parameter, in range. Null: nothing is drafted.
  std::unique_ptr<Drafter> (*make)(DrafterParts parts, absl::Span<const double> values) = nullptr;
  // What it takes beside models and their caches, but for the heap's slack.
  uint64_t (*plan_bytes)(const DrafterParts& parts, const ModelConfig& target,
                         absl::Span<const double> values) = nullptr;
};
// In drafters/registry.cc, in order.
absl::Span<const DrafterRow> Drafters();

// A drafter as the user named it, with its parameters.
struct DrafterChoice {
  const DrafterRow* row = nullptr;
  std::string model_path;      // kModel
  std::vector<double> values;  // one a parameter

  bool is_none() const { return row == nullptr || row->make == nullptr; }
};
// `name`: a row's, or the path of a GGUF file, which means the row "draft_model". `settings` of
// other rows are passed over. InvalidArgument: neither (listing the rows), "draft_model" without a
// path, or what ChooseParameters refuses.
absl::StatusOr<DrafterChoice> ChooseDrafter(std::string_view name,
                                            absl::Span<const Setting> settings = {});

}  // namespace stoker
