// The forward pass: embedding, layers, head.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "device/buffer.h"
#include "model/blocks/attention.h"
#include "model/blocks/feed_forward.h"
#include "model/blocks/mixture.h"
#include "model/embedding_table.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/trunk_reader.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace stoker {
namespace {

class Transformer final : public Model {
 public:
  Transformer(ModelSpec spec, const Options& options, const Ops& ops, ThreadTeam& team)
      : spec_(std::move(spec)), options_(options), ops_(ops), team_(team) {}

  absl::Status Init(const GgufModel& gguf, BlockReader& reader, const Progress& progress);

  const ModelSpec& spec() const override { return spec_; }
  absl::Status Forward(absl::Span<const StepRow> rows, KvCache& kv, ExpertProvider& experts,
                       StepObserver* observer, TimeLedger* ledger,
                       const StepOutput& output) override;

 private:
  absl::Span<const SequenceRun> FindRuns(absl::Span<const StepRow> rows, const KvCache& kv);
  absl::Status Embed(absl::Span<const StepRow> rows);
  void AddAndNorm(const Step& step, bool adds, const float* norm, float* hidden);
  void Head(const Step& step, float* hidden, float* logits);

  ModelSpec spec_;
  const Options options_;
  const Ops& ops_;
  ThreadTeam& team_;
  HostBuffer trunk_;
  HostBuffer workspace_;
  TrunkWeights weights_;  // views into trunk_
  Workspace work_;        // arrays in workspace_
  std::unique_ptr<EmbeddingTable> embedding_;
};

absl::Status Transformer::Init(const GgufModel& gguf, BlockReader& reader,
                               const Progress& progress) {
  const ModelConfig& config = spec_.config;
  ASSIGN_OR_RETURN(const std::vector<TrunkTensor> tensors, DescribeTrunk(gguf, config, weights_));
  ASSIGN_OR_RETURN(trunk_, ReadTrunk(gguf, tensors, config, ops_, team_, reader, progress));
  if (weights_.is_tied) {
    weights_.output = weights_.embedding;
    embedding_ = EmbeddingTable::Resident(weights_.embedding, ops_);
  } else {
    const GgufTensor& table = *gguf.FindTensor("token_embd.weight");
    const std::string& path = gguf.paths()[static_cast<size_t>(table.file)];
    ASSIGN_OR_RETURN(embedding_, EmbeddingTable::Open(path, table, weights_.embedding, ops_));
  }
  ASSIGN_OR_RETURN(workspace_,
                   HostBuffer::Create(WorkspaceBytes(spec_, options_, team_.thread_count())));
  Carver carver(workspace_.data());
  work_ = CarveWorkspace(spec_, options_, team_.thread_count(), carver);
  team_.ParallelFor(options_.context_max, 1024, [&](int64_t begin, int64_t end, int) {
    FillRopeTable(config.rope, weights_.rope_divisors, begin, end, {work_.cosines, work_.sines});
  });
  return absl::OkStatus();
}

absl::Span<const SequenceRun> Transformer::FindRuns(absl::Span<const StepRow> rows,
                                                    const KvCache& kv) {
  size_t count = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    const StepRow& row = rows[r];
    CHECK(row.token >= 0 && row.token < spec_.config.vocab_count);
    CHECK(row.position < options_.context_max && row.position < kv.options().context);
    if (r > 0 && rows[r - 1].sequence == row.sequence) {
      CHECK(row.position == rows[r - 1].position + 1);
      ++work_.runs[count - 1].count;
    } else {
      CHECK(row.position == kv.length(row.sequence));
      work_.runs[count++] = {static_cast<int32_t>(r), 1, row.sequence, row.position};
    }
  }
  return {work_.runs, count};
}

absl::Status Transformer::Embed(absl::Span<const StepRow> rows) {
  const int64_t stride = RowStride(spec_.config.hidden);
  for (size_t r = 0; r < rows.size(); ++r) work_.tokens[r] = rows[r].token;
  embedding_->Expect({work_.tokens, rows.size()});
  for (size_t r = 0; r < rows.size(); ++r) {
    RETURN_IF_ERROR(
        embedding_->Read(rows[r].token, work_.residual + static_cast<int64_t>(r) * stride));
  }
  return absl::OkStatus();
}

// residual += delta (of the block before, if there is one); normed = the norm of it. `hidden`, if
// wanted, gets the residual: [rows, hidden], dense.
void Transformer::AddAndNorm(const Step& step, bool adds, const float* norm, float* hidden) {
  const int64_t width = spec_.config.hidden;
  const int64_t stride = RowStride(width);
  ForEachRow(step, [&](int64_t row) {
    float* residual = work_.residual + row * stride;
    if (adds) ops_.add(work_.delta + row * stride, width, residual);
    if (hidden != nullptr) std::copy_n(residual, width, hidden + row * width);
    ops_.rms_norm(residual, norm, width, spec_.config.norm_epsilon, work_.normed + row * stride);
  });
}

// Final norm, and logits of the rows that want them, moved together to the front of `normed`.
void Transformer::Head(const Step& step, float* hidden, float* logits) {
  const int64_t width = spec_.config.hidden;
  const int64_t stride = RowStride(width);
  AddAndNorm(step, true, weights_.output_norm, nullptr);
  int64_t wanted = 0;
  for (int64_t row = 0; row < step.row_count(); ++row) {
    const float* normed = work_.normed + row * stride;
    if (hidden != nullptr) std::copy_n(normed, width, hidden + row * width);
    if (!step.rows[static_cast<size_t>(row)].wants_logits) continue;
    if (wanted < row) std::copy_n(normed, width, work_.normed + wanted * stride);
    work_.outs[wanted] = logits + wanted * spec_.config.vocab_count;
    ++wanted;
  }
  CHECK(wanted <= options_.logits_rows_max);
  if (wanted == 0) return;
  work_.input.Assign(work_.normed, stride, wanted, width);
  work_.input.Quantize(ops_, team_, KindSet::Of({&weights_.output}));
  const MatmulArgs product = Product(weights_.output, work_.input, work_.outs);
  RunProducts(ops_, team_, {&product, 1});
}

absl::Status Transformer::Forward(absl::Span<const StepRow> rows, KvCache& kv,
                                  ExpertProvider& experts, StepObserver* observer,
                                  TimeLedger* ledger, const StepOutput& output) {
  CHECK(!rows.empty() && rows.size() <= static_cast<size_t>(options_.step_rows_max));
  const ModelConfig& config = spec_.config;
  const Step step = {config, ops_, team_, work_, kv, rows, FindRuns(rows, kv), ledger};
  {
    const CauseScope cause(ledger, Cause::kEmbedding);
    RETURN_IF_ERROR(Embed(rows));  // residual: [rows, hidden]
  }
  const auto hidden_block = [&](int block) {
    return output.hidden == nullptr ? nullptr : output.hidden + block * output.hidden_block_stride;
  };
  for (int layer = 0; layer < config.layer_count; ++layer) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
    {
      const CauseScope cause(ledger, Cause::kAttention);
      AddAndNorm(step, layer > 0, w.attention.norm, hidden_block(layer));
      Attention(step, layer, w.attention);
      AddAndNorm(step, true, w.ffn_norm, nullptr);
    }
    if (config.layer_is_moe(layer)) {
      RETURN_IF_ERROR(Mixture(step, layer, w, experts, observer));
    } else {
      const CauseScope cause(ledger, Cause::kDense);
      work_.input.Assign(work_.normed, RowStride(config.hidden), step.row_count(), config.hidden);
      work_.input.Quantize(ops_, team_, FeedForwardKinds(w.dense));
      FeedForward(step, w.dense, work_.delta);
    }
  }
  {
    const CauseScope cause(ledger, Cause::kHead);
    Head(step, hidden_block(config.layer_count), output.logits);
  }
  for (const SequenceRun& run : step.runs) kv.Extend(run.sequence, run.position + run.count);
  return absl::OkStatus();
}

}  // namespace

uint64_t Model::WorkspaceBytes(const ModelSpec& spec, const Options& options, int thread_count) {
  Carver carver;
  CarveWorkspace(spec, options, thread_count, carver);
  return carver.bytes();
}

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const GgufModel& gguf, ModelSpec spec,
                                                   const Options& options, const Ops& ops,
                                                   ThreadTeam& team, BlockReader& reader,
                                                   const Progress& progress) {
  CHECK(options.step_rows_max >= 1 && options.context_max >= 1);
  auto model = std::make_unique<Transformer>(std::move(spec), options, ops, team);
  RETURN_IF_ERROR(model->Init(gguf, reader, progress));
  return model;
}

}  // namespace stoker
