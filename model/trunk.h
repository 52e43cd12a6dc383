// The parts that a forward pass is made of, wherever they are computed: on the host or on a device.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/parallel.h"
#include "base/time_ledger.h"
#include "cache/expert_provider.h"
#include "io/block_reader.h"
#include "io/gguf.h"
#include "kernels/ops.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/step_observer.h"

namespace stoker {

// Rows of one sequence in a step: adjacent, at consecutive positions.
struct SequenceRun {
  int32_t row = 0;  // the first
  int32_t count = 0;
  int32_t sequence = 0;
  int32_t position = 0;  // of the first row
};

// What a step is about.
struct StepInput {
  absl::Span<const StepRow> rows;
  absl::Span<const SequenceRun> runs;
  KvCache& kv;
  TimeLedger* ledger;  // may be null
};

// The resident weights and the memory of a step. Every part works on three arrays of [rows, hidden]
// that the trunk keeps: the residual stream, its norm, and the delta that a part adds to it. One
// step runs at a time; its parts are called in the order of a forward pass. On a device a part may
// be only queued when it returns; errors come to light in those that return a status, and after one
// the step must be abandoned.
class Trunk {
 public:
  enum class Norm : uint8_t { kAttention, kFeedForward };

  virtual ~Trunk() = default;
  // Begins a step: residual = the rows' embeddings.
  virtual absl::Status Embed(const StepInput& step) = 0;
  // Begins a step of multi-token prediction: residual = what its layer starts from, for `rows`,
  // which are those of the step. Its parts are those of layer config.layer_count; HeadMtp ends it.
  virtual absl::Status EmbedMtp(const StepInput& step, absl::Span<const MtpRow> rows) = 0;
  // After Embed: queues all parts between it and Head at once, if they were recorded when a step
  // like this one ran; then Head is what follows. False: every part is to be called. `output` is
  // what the step is to give.
  virtual bool Repeat(const StepInput& /*step*/, ExpertProvider& /*experts*/,
                      StepObserver* /*observer*/, const StepOutput& /*output*/) {
    return false;
  }
  // residual += delta, except before the first part of a step; normed = its norm by the weights of
  // `norm`. `hidden`, if not null, gets the residual, [rows, hidden], dense, by the end of the
  // step.
  virtual void AddAndNorm(const StepInput& step, int layer, Norm norm, float* hidden) = 0;
  // Each: delta = the part of normed. Attention appends keys and values to the cache.
  virtual void Attention(const StepInput& step, int layer) = 0;
  virtual void FeedForward(const StepInput& step, int layer) = 0;
  // Fails with the provider's error when an expert cannot be had. `observer` may be null.
  virtual absl::Status Mixture(const StepInput& step, int layer, ExpertProvider& experts,
                               StepObserver* observer) = 0;
  // Ends the step: residual += delta, its final norm to output.normed and to `hidden` (as above),
  // and logits of the rows that want them, with what belongs to them.
  virtual absl::Status Head(const StepInput& step, float* hidden, const StepOutput& output) = 0;
  virtual absl::Status HeadMtp(const StepInput& step, const StepOutput& output) = 0;
  // Ends a step that failed: returns when nothing of it is under way.
  virtual void Abandon() = 0;
};

// Calls the parts of a layer, in order. `hidden`: see AddAndNorm.
absl::Status RunLayer(Trunk& trunk, const ModelConfig& config, const StepInput& step, int layer,
                      ExpertProvider& experts, StepObserver* observer, float* hidden);
// Those of every layer.
absl::Status RunLayers(Trunk& trunk, const ModelConfig& config, const StepInput& step,
                       ExpertProvider& experts, StepObserver* observer, const StepOutput& output);

// What a trunk is loaded from, as Model::Load is told.
struct TrunkSource {
  const GgufModel& gguf;
  const ModelSpec& spec;  // outlives the trunk
  const Model::Options& options;
  const Ops& ops;
  ThreadTeam& team;
  BlockReader& reader;
  const Model::Progress& progress;
};

absl::StatusOr<std::unique_ptr<Trunk>> LoadHostTrunk(const TrunkSource& source);
WorkspaceNeeds HostWorkspaceNeeds(const ModelSpec& spec, const Model::Options& options,
                                  int thread_count);

// The device's error, with what was to be taken, when it cannot hold the trunk or the workspace.
absl::StatusOr<std::unique_ptr<Trunk>> LoadDeviceTrunk(const TrunkSource& source,
                                                       const ModelDevice& device);
WorkspaceNeeds DeviceWorkspaceNeeds(const ModelSpec& spec, const Model::Options& options);

}  // namespace stoker
