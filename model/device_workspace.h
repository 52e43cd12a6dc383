// The memory of a step on a device: the arrays there, and the pinned host memory that goes in and
// comes out.
#pragma once

#include <cstdint>

#include "cache/expert_provider.h"
#include "kernels/device_args.h"
#include "model/blocks/products.h"
#include "model/carver.h"
#include "model/config.h"
#include "model/expert_batch.h"
#include "model/model.h"

namespace stoker {

// Rows of floats on the device with room for their quantized forms.
struct DeviceRows {
  float* x = nullptr;
  int64_t stride = 0;
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;

  // Without the forms that `kinds` does not have, so that nothing makes them.
  DeviceRows Only(KindSet kinds) const {
    return {x, stride, kinds.Has(ActivationKind::kQ8x32) ? q8x32 : nullptr,
            kinds.Has(ActivationKind::kQ8x256) ? q8x256 : nullptr};
  }
  DeviceActivations view() const { return {x, stride, q8x32, q8x256}; }
};

// What a step begins with: laid out for its rows, so that one copy brings it.
struct StepInbox {
  RowPlace* places = nullptr;      // [rows]
  int32_t* logits_rows = nullptr;  // [rows that want logits]
  size_t bytes = 0;

  static StepInbox Carve(int64_t rows, int64_t logits_rows, Carver& carver);
};

// What a layer's router decided, and the rows that its experts start from in the forms that they
// want: laid out for a step's rows, so that one copy brings all that the host needs.
struct RouterOutbox {
  int32_t* chosen = nullptr;  // [rows, top_k]
  float* weights = nullptr;   // [rows, top_k]
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;
  float* normed = nullptr;  // [rows, hidden]
  size_t bytes = 0;

  static RouterOutbox Carve(const ModelConfig& config, int64_t rows, KindSet kinds, Carver& carver);
};

// What a router decided alone: where nobody waits for it, it is the head of an outbox; where it is
// a guess of a later layer's router, it comes behind one.
struct RouterChoices {
  int32_t top_k = 0;
  int32_t* experts = nullptr;  // [rows, top_k]
  float* weights = nullptr;    // [rows, top_k]
  size_t bytes = 0;

  static RouterChoices Carve(const ModelConfig& config, int64_t rows, Carver& carver);
  static RouterChoices CarveGuess(const ModelConfig& config, int64_t rows, Carver& carver);
};

// What the device plans for itself, of up to `pairs` pairs.
struct GroupedTables {
  int32_t* task_count = nullptr;
  ExpertTask* tasks = nullptr;  // [pairs]
  int32_t* pairs = nullptr;     // [pairs]

  static GroupedTables Carve(int64_t pairs, Carver& carver);
};

// What multi-token prediction starts from: [rows, 2 * hidden], of each row the embedding of its
// token and a state.
struct DeviceMtpArrays {
  float* halves = nullptr;
  DeviceRows joined;  // the same, each half normed
};

// Arrays are [rows, width] with rows RowStride(width) floats apart unless said otherwise. What is
// queued runs in order, so an array can serve one thing after another, also across layers.
struct DeviceWorkspace {
  int64_t pairs_max = 0;           // (row, expert) pairs of one launch
  int64_t lookahead_rows_max = 0;  // rows of a step that routers are guessed for
  RopeTable rope;                  // [context, rope dims / 2], dense

  std::byte* inbox = nullptr;
  std::byte* outbox = nullptr;
  std::byte* tables = nullptr;        // of a layer's experts: places of pairs, then groups
  std::byte* expert_parts = nullptr;  // addresses: [ExpertLayers, experts, kExpertPartsMax]
  std::byte* choices = nullptr;       // RouterChoices, of each layer that is not waited for

  float* residual = nullptr;  // [rows, hidden]
  float* delta = nullptr;     // [rows, hidden]
  DeviceRows normed;          // [rows, hidden]
  DeviceRows guess_input;     // [lookahead rows, hidden], of the router that is guessed
  DeviceRows inner;           // forms only, of rows between two products, or of pairs
  DeviceMtpArrays mtp;
  float* query = nullptr;      // [rows, heads * key_dim]
  float* query_low = nullptr;  // [rows, q_rank]
  float* key = nullptr;        // [rows, kv_heads * key_dim]; kLatent: [rows, kv_rank + rope dims]
  float* value = nullptr;      // [rows, kv_heads * value_dim]
  float* absorbed = nullptr;   // kLatent: [rows, heads, kv_rank + rope dims]
  float* context = nullptr;    // kLatent: [rows, heads, kv_rank]
  float* attended = nullptr;   // [rows, heads * value_dim]
  float* attention_scratch = nullptr;
  float* gate = nullptr;  // [rows, feed-forward] or [pairs, expert feed-forward]
  float* up = nullptr;
  float* shared = nullptr;       // [rows, hidden]
  float* shared_gate = nullptr;  // [rows, 1]
  float* router = nullptr;       // [rows, experts]
  float* partial = nullptr;      // [rows * top_k, hidden], an expert's parts side by side
  int32_t* counters = nullptr;   // of a group of experts; zero between launches
  float* logits = nullptr;       // [logits rows, vocab]
  ExpSum* exp_sums = nullptr;    // [logits rows]
};

// Host memory that copies go to and come from, in the shapes of their counterparts.
struct PinnedBlock {
  std::byte* inbox = nullptr;
  std::byte* outbox = nullptr;
  std::byte* tables = nullptr;
  std::byte* choices = nullptr;
  float* embedded = nullptr;  // [rows, hidden], of models whose table stays in the file
  float* mtp_halves = nullptr;
  // [rows of a recorded step, hidden], dense: of all rows, of models with multi-token prediction
  float* normed = nullptr;
  float* partial = nullptr;    // [rows * top_k, hidden], what the host computed
  float* logits = nullptr;     // [logits rows, vocab]
  ExpSum* exp_sums = nullptr;  // [logits rows]
};

// Host memory that only the host touches.
struct HostPart {
  int32_t* tokens = nullptr;  // [rows]
  ExpertPlan plan;            // `places` is set to PinnedBlock::tables
  ExpertArrays experts;
  Activations input;                   // points at rows of the outbox
  ResidentLayer* residents = nullptr;  // [ExpertLayers] whose addresses are on the device
  int32_t* noted_layers = nullptr;     // [layers]
};

// Layers that may have experts, that of multi-token prediction among them.
inline int ExpertLayers(const ModelSpec& spec) {
  return spec.config.layer_count + (spec.with_mtp ? 1 : 0);
}

// Pairs of a step that the device can plan by itself.
inline int64_t GroupedPairsMax(const DeviceWorkspace& work) {
  return work.pairs_max < kGroupedPairsMax ? work.pairs_max : kGroupedPairsMax;
}

// Each carves for steps of up to options.step_rows_max rows; with a counting carver, to plan.
DeviceWorkspace CarveDeviceWorkspace(const ModelSpec& spec, const Model::Options& options,
                                     Carver& carver);
PinnedBlock CarvePinnedBlock(const ModelSpec& spec, const Model::Options& options, Carver& carver);
HostPart CarveHostPart(const ModelSpec& spec, const Model::Options& options, Carver& carver);

}  // namespace stoker
