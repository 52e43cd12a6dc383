// The forward pass: embedding, layers, head.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "model/model.h"
#include "model/trunk.h"

namespace stoker {
namespace {

class Transformer final : public Model {
 public:
  Transformer(ModelSpec spec, const Options& options)
      : spec_(std::move(spec)),
        options_(options),
        runs_(static_cast<size_t>(options.step_rows_max)),
        mtp_rows_(static_cast<size_t>(options.mtp_rows_max)) {}

  void Take(std::unique_ptr<Trunk> trunk) { trunk_ = std::move(trunk); }
  const Options& options() const { return options_; }
  const ModelSpec& spec() const override { return spec_; }
  absl::Status Forward(absl::Span<const StepRow> rows, KvCache& kv, ExpertProvider& experts,
                       StepObserver* observer, TimeLedger* ledger,
                       const StepOutput& output) override;
  absl::Status ForwardMtp(absl::Span<const MtpRow> rows, KvCache& kv, ExpertProvider& experts,
                          StepObserver* observer, TimeLedger* ledger,
                          const StepOutput& output) override;

 private:
  absl::Span<const SequenceRun> FindRuns(absl::Span<const StepRow> rows, const KvCache& kv);
  absl::Status RunStep(const StepInput& step, ExpertProvider& experts, StepObserver* observer,
                       const StepOutput& output);
  absl::Status RunMtp(const StepInput& step, absl::Span<const MtpRow> rows, ExpertProvider& experts,
                      StepObserver* observer, const StepOutput& output);
  // Settles how long the step's sequences are now, and returns its status.
  absl::Status End(const StepInput& step, absl::Status status);

  const ModelSpec spec_;
  const Options options_;
  std::vector<SequenceRun> runs_;
  std::vector<StepRow> mtp_rows_;
  std::unique_ptr<Trunk> trunk_;
};

absl::Span<const SequenceRun> Transformer::FindRuns(absl::Span<const StepRow> rows,
                                                    const KvCache& kv) {
  size_t count = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    const StepRow& row = rows[r];
    CHECK(row.token >= 0 && row.token < spec_.config.vocab_count);
    CHECK(row.position < options_.context_max && row.position < kv.options().context);
    if (r > 0 && rows[r - 1].sequence == row.sequence) {
      CHECK(row.position == rows[r - 1].position + 1);
      ++runs_[count - 1].count;
    } else {
      CHECK(row.position == kv.length(row.sequence));
      runs_[count++] = {static_cast<int32_t>(r), 1, row.sequence, row.position};
    }
  }
  return {runs_.data(), count};
}

absl::Status Transformer::RunStep(const StepInput& step, ExpertProvider& experts,
                                  StepObserver* observer, const StepOutput& output) {
  {
    const CauseScope cause(step.ledger, Cause::kEmbedding);
    RETURN_IF_ERROR(trunk_->Embed(step));
  }
  if (!trunk_->Repeat(step, experts, observer, output)) {
    RETURN_IF_ERROR(RunLayers(*trunk_, spec_.config, step, experts, observer, output));
  }
  const CauseScope cause(step.ledger, Cause::kHead);
  return trunk_->Head(step, output.HiddenBlock(spec_.config.layer_count), output);
}

absl::Status Transformer::RunMtp(const StepInput& step, absl::Span<const MtpRow> rows,
                                 ExpertProvider& experts, StepObserver* observer,
                                 const StepOutput& output) {
  {
    const CauseScope cause(step.ledger, Cause::kEmbedding);
    RETURN_IF_ERROR(trunk_->EmbedMtp(step, rows));
  }
  const int layer = spec_.config.layer_count;
  RETURN_IF_ERROR(RunLayer(*trunk_, spec_.config, step, layer, experts, observer, nullptr));
  const CauseScope cause(step.ledger, Cause::kHead);
  return trunk_->HeadMtp(step, output);
}

absl::Status Transformer::End(const StepInput& step, absl::Status status) {
  if (!status.ok()) trunk_->Abandon();
  for (const SequenceRun& run : step.runs) {
    if (status.ok()) {
      step.kv.Extend(run.sequence, run.position + run.count);
    } else {
      step.kv.Truncate(run.sequence, run.position);
    }
  }
  return status;
}

absl::Status Transformer::Forward(absl::Span<const StepRow> rows, KvCache& kv,
                                  ExpertProvider& experts, StepObserver* observer,
                                  TimeLedger* ledger, const StepOutput& output) {
  CHECK(!rows.empty() && rows.size() <= static_cast<size_t>(options_.step_rows_max));
  const StepInput step = {rows, FindRuns(rows, kv), kv, ledger};
  if (observer != nullptr) observer->OnStep(rows);
  return End(step, RunStep(step, experts, observer, output));
}

absl::Status Transformer::ForwardMtp(absl::Span<const MtpRow> rows, KvCache& kv,
                                     ExpertProvider& experts, StepObserver* observer,
                                     TimeLedger* ledger, const StepOutput& output) {
  CHECK(!rows.empty() && rows.size() <= mtp_rows_.size());
  CHECK(kv.options().layer_count == 1 && output.hidden == nullptr);
  for (size_t r = 0; r < rows.size(); ++r) {
    const MtpRow& row = rows[r];
    mtp_rows_[r] = {row.token, row.sequence, row.position, row.wants_logits};
  }
  const absl::Span<const StepRow> step_rows(mtp_rows_.data(), rows.size());
  const StepInput step = {step_rows, FindRuns(step_rows, kv), kv, ledger};
  if (observer != nullptr) observer->OnStep(step_rows);
  return End(step, RunMtp(step, rows, experts, observer, output));
}

}  // namespace

absl::Status RunLayer(Trunk& trunk, const ModelConfig& config, const StepInput& step, int layer,
                      ExpertProvider& experts, StepObserver* observer, float* hidden) {
  {
    const CauseScope cause(step.ledger, Cause::kAttention);
    trunk.AddAndNorm(step, layer, Trunk::Norm::kAttention, hidden);
    trunk.Attention(step, layer);
    trunk.AddAndNorm(step, layer, Trunk::Norm::kFeedForward, nullptr);
  }
  if (config.layer_is_moe(layer)) return trunk.Mixture(step, layer, experts, observer);
  const CauseScope cause(step.ledger, Cause::kDense);
  trunk.FeedForward(step, layer);
  return absl::OkStatus();
}

absl::Status RunLayers(Trunk& trunk, const ModelConfig& config, const StepInput& step,
                       ExpertProvider& experts, StepObserver* observer, const StepOutput& output) {
  for (int layer = 0; layer < config.layer_count; ++layer) {
    RETURN_IF_ERROR(
        RunLayer(trunk, config, step, layer, experts, observer, output.HiddenBlock(layer)));
  }
  return absl::OkStatus();
}

WorkspaceNeeds Model::WorkspaceBytes(const ModelSpec& spec, const Options& options,
                                     int thread_count, bool on_device) {
  WorkspaceNeeds needs = on_device ? DeviceWorkspaceNeeds(spec, options)
                                   : HostWorkspaceNeeds(spec, options, thread_count);
  needs.host_bytes += static_cast<uint64_t>(options.step_rows_max) * sizeof(SequenceRun) +
                      static_cast<uint64_t>(options.mtp_rows_max) * sizeof(StepRow);
  return needs;
}

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const GgufModel& gguf, ModelSpec spec,
                                                   const Options& options, const Ops& ops,
                                                   ThreadTeam& team, BlockReader& reader,
                                                   const Progress& progress,
                                                   const ModelDevice& device) {
  CHECK(options.step_rows_max >= 1 && options.context_max >= 1);
  CHECK(options.mtp_rows_max <= (spec.with_mtp ? options.step_rows_max : 0));
  auto model = std::make_unique<Transformer>(std::move(spec), options);
  const TrunkSource source = {gguf, model->spec(), model->options(), ops, team, reader, progress};
  ASSIGN_OR_RETURN(std::unique_ptr<Trunk> trunk, device.device == nullptr
                                                     ? LoadHostTrunk(source)
                                                     : LoadDeviceTrunk(source, device));
  model->Take(std::move(trunk));
  return model;
}

}  // namespace stoker
