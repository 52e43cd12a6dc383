// The trunk in host memory, computed by the thread team.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "device/buffer.h"
#include "model/blocks/attention.h"
#include "model/blocks/feed_forward.h"
#include "model/blocks/join.h"
#include "model/blocks/lookahead.h"
#include "model/blocks/mixture.h"
#include "model/embedding_table.h"
#include "model/rope.h"
#include "model/trunk.h"
#include "model/trunk_reader.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace stoker {
namespace {

class HostTrunk final : public Trunk {
 public:
  explicit HostTrunk(const TrunkSource& source)
      : spec_(source.spec), options_(source.options), ops_(source.ops), team_(source.team) {}

  absl::Status Init(const TrunkSource& source);

  absl::Status Embed(const StepInput& input) override;
  absl::Status EmbedMtp(const StepInput& input, absl::Span<const MtpRow> rows) override;
  void AddAndNorm(const StepInput& input, int layer, Norm norm, float* hidden) override;
  void Attention(const StepInput& input, int layer) override;
  void FeedForward(const StepInput& input, int layer) override;
  absl::Status Mixture(const StepInput& input, int layer, ExpertProvider& experts,
                       StepObserver* observer) override;
  absl::Status Head(const StepInput& input, float* hidden, const StepOutput& output) override;
  absl::Status HeadMtp(const StepInput& input, const StepOutput& output) override;
  void Abandon() override {}

 private:
  Step StepOf(const StepInput& input) {
    return {spec_.config, ops_, team_, work_, input.kv, input.rows, input.runs, input.ledger};
  }
  const LayerWeights& Layer(int layer) const { return weights_.layers[static_cast<size_t>(layer)]; }
  absl::Status OpenEmbeddings(const GgufModel& gguf);
  // residual = the rows of the tokens.
  absl::Status ReadEmbeddings(const StepInput& input, EmbeddingTable& table);
  void AddAndNormBy(const Step& step, bool adds, const float* norm, float* hidden);
  absl::Status RunHead(const StepInput& input, const HeadWeights& w, float* hidden,
                       const StepOutput& output);

  const ModelSpec& spec_;
  const Model::Options& options_;
  const Ops& ops_;
  ThreadTeam& team_;
  HostBuffer trunk_;
  HostBuffer workspace_;
  TrunkWeights weights_;  // views into trunk_
  Workspace work_;        // arrays in workspace_
  std::unique_ptr<EmbeddingTable> embedding_;
  std::unique_ptr<EmbeddingTable> mtp_embedding_;  // with_mtp
};

absl::Status HostTrunk::Init(const TrunkSource& source) {
  const ModelConfig& config = spec_.config;
  ASSIGN_OR_RETURN(const std::vector<TrunkTensor> tensors,
                   DescribeTrunk(source.gguf, spec_, weights_));
  ASSIGN_OR_RETURN(
      trunk_, ReadTrunk(source.gguf, tensors, config, ops_, team_, source.reader, source.progress));
  RETURN_IF_ERROR(OpenEmbeddings(source.gguf));
  const WorkspaceNeeds needs = HostWorkspaceNeeds(spec_, options_, team_.thread_count());
  ASSIGN_OR_RETURN(workspace_, HostBuffer::Create(needs.host_bytes));
  Carver carver(workspace_.data());
  work_ = CarveWorkspace(spec_, options_, team_.thread_count(), carver);
  team_.ParallelFor(options_.context_max, 1024, [&](int64_t begin, int64_t end, int) {
    FillRopeTable(config.rope, weights_.rope_divisors, begin, end, {work_.cosines, work_.sines});
  });
  return absl::OkStatus();
}

absl::Status HostTrunk::OpenEmbeddings(const GgufModel& gguf) {
  if (weights_.is_tied) {
    weights_.output = weights_.embedding;
    embedding_ = EmbeddingTable::Resident(weights_.embedding, ops_);
  } else {
    ASSIGN_OR_RETURN(embedding_,
                     EmbeddingTable::Open(gguf, "token_embd.weight", weights_.embedding, ops_));
  }
  if (!spec_.with_mtp) return absl::OkStatus();
  const MtpWeights& mtp = weights_.mtp;
  ASSIGN_OR_RETURN(mtp_embedding_,
                   EmbeddingTable::Open(gguf, mtp.embedding_name, mtp.embedding, ops_));
  return absl::OkStatus();
}

absl::Status HostTrunk::ReadEmbeddings(const StepInput& input, EmbeddingTable& table) {
  const absl::Span<const StepRow> rows = input.rows;
  const int64_t stride = RowStride(spec_.config.hidden);
  for (size_t r = 0; r < rows.size(); ++r) work_.tokens[r] = rows[r].token;
  table.Expect({work_.tokens, rows.size()});
  for (size_t r = 0; r < rows.size(); ++r) {
    RETURN_IF_ERROR(table.Read(rows[r].token, work_.residual + static_cast<int64_t>(r) * stride));
  }
  return absl::OkStatus();
}

absl::Status HostTrunk::Embed(const StepInput& input) { return ReadEmbeddings(input, *embedding_); }

absl::Status HostTrunk::EmbedMtp(const StepInput& input, absl::Span<const MtpRow> rows) {
  RETURN_IF_ERROR(ReadEmbeddings(input, *mtp_embedding_));
  JoinStates(StepOf(input), weights_.mtp, rows);
  return absl::OkStatus();
}

void HostTrunk::AddAndNormBy(const Step& step, bool adds, const float* norm, float* hidden) {
  const int64_t width = spec_.config.hidden;
  const int64_t stride = RowStride(width);
  ForEachRow(step, [&](int64_t row) {
    float* residual = work_.residual + row * stride;
    if (adds) ops_.add(work_.delta + row * stride, width, residual);
    if (hidden != nullptr) std::copy_n(residual, width, hidden + row * width);
    ops_.rms_norm(residual, norm, width, spec_.config.norm_epsilon, work_.normed + row * stride);
  });
}

void HostTrunk::AddAndNorm(const StepInput& input, int layer, Norm norm, float* hidden) {
  const LayerWeights& w = Layer(layer);
  const bool is_first =
      (layer == 0 || layer == spec_.config.layer_count) && norm == Norm::kAttention;
  AddAndNormBy(StepOf(input), !is_first, norm == Norm::kAttention ? w.attention.norm : w.ffn_norm,
               hidden);
}

void HostTrunk::Attention(const StepInput& input, int layer) {
  // Multi-token prediction has a cache of one layer.
  const int cached_layer = layer == spec_.config.layer_count ? 0 : layer;
  stoker::Attention(StepOf(input), cached_layer, Layer(layer).attention);
}

void HostTrunk::FeedForward(const StepInput& input, int layer) {
  const Step step = StepOf(input);
  const FeedForwardWeights& w = Layer(layer).dense;
  const int64_t hidden = spec_.config.hidden;
  work_.input.Assign(work_.normed, RowStride(hidden), step.row_count(), hidden);
  work_.input.Quantize(ops_, team_, FeedForwardKinds(w));
  stoker::FeedForward(step, w, work_.delta);
}

absl::Status HostTrunk::Mixture(const StepInput& input, int layer, ExpertProvider& experts,
                                StepObserver* observer) {
  const Step step = StepOf(input);
  return stoker::Mixture(step, layer, Layer(layer), experts, observer, [&] {
    if (observer != nullptr) LookAhead(step, layer, weights_.layers, *observer);
  });
}

absl::Status HostTrunk::Head(const StepInput& input, float* hidden, const StepOutput& output) {
  return RunHead(input, HeadOf(weights_), hidden, output);
}

absl::Status HostTrunk::HeadMtp(const StepInput& input, const StepOutput& output) {
  return RunHead(input, MtpHeadOf(weights_), nullptr, output);
}

// The rows that want logits are moved together to the front of `normed`.
absl::Status HostTrunk::RunHead(const StepInput& input, const HeadWeights& w, float* hidden,
                                const StepOutput& output) {
  const Step step = StepOf(input);
  const int64_t width = spec_.config.hidden;
  const int64_t stride = RowStride(width);
  AddAndNormBy(step, true, w.norm, nullptr);
  int64_t wanted = 0;
  for (int64_t row = 0; row < step.row_count(); ++row) {
    const float* normed = work_.normed + row * stride;
    if (hidden != nullptr) std::copy_n(normed, width, hidden + row * width);
    if (output.normed != nullptr) std::copy_n(normed, width, output.normed + row * width);
    if (!step.rows[static_cast<size_t>(row)].wants_logits) continue;
    if (wanted < row) std::copy_n(normed, width, work_.normed + wanted * stride);
    work_.outs[wanted] = output.logits + wanted * spec_.config.vocab_count;
    ++wanted;
  }
  CHECK(wanted <= options_.logits_rows_max);
  if (wanted == 0) return absl::OkStatus();
  work_.input.Assign(work_.normed, stride, wanted, width);
  work_.input.Quantize(ops_, team_, KindSet::Of({&w.output}));
  const MatmulArgs product = Product(w.output, work_.input, work_.outs);
  RunProducts(ops_, team_, {&product, 1});
  if (output.exp_sums == nullptr) return absl::OkStatus();
  team_.ParallelFor(wanted, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      output.exp_sums[row] = ops_.log_sum_exp(work_.outs[row], spec_.config.vocab_count);
    }
  });
  return absl::OkStatus();
}

}  // namespace

WorkspaceNeeds HostWorkspaceNeeds(const ModelSpec& spec, const Model::Options& options,
                                  int thread_count) {
  Carver carver;
  CarveWorkspace(spec, options, thread_count, carver);
  return {.host_bytes = carver.bytes()};
}

absl::StatusOr<std::unique_ptr<Trunk>> LoadHostTrunk(const TrunkSource& source) {
  auto trunk = std::make_unique<HostTrunk>(source);
  RETURN_IF_ERROR(trunk->Init(source));
  return trunk;
}

}  // namespace stoker
