// From a config to tensor names and shapes.
#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "absl/types/span.h"
#include "base/status.h"
#include "kernels/formats/formats.h"

namespace stoker {
namespace {

using Part = ModelSpec::Part;
using Dims = std::array<int64_t, 3>;  // as in the file, contiguous first; unused ones are 1

bool HasDims(const GgufTensor& tensor, const Dims& dims) {
  return tensor.dims[0] == dims[0] && tensor.dims[1] == dims[1] && tensor.dims[2] == dims[2] &&
         tensor.dims[3] == 1;
}

std::string ShapeText(const GgufTensor& tensor) {
  return fmt::format("[{}]",
                     fmt::join(tensor.dims.begin(), tensor.dims.begin() + tensor.dim_count, ", "));
}

std::string ShapeText(const Dims& dims) {
  const int count = dims[2] != 1 ? 3 : dims[1] != 1 ? 2 : 1;
  return fmt::format("[{}]", fmt::join(dims.begin(), dims.begin() + count, ", "));
}

// A tensor of exactly these dims and of a format that can be computed with.
absl::StatusOr<const GgufTensor*> Require(const GgufModel& gguf, const std::string& name,
                                          const Dims& dims) {
  const GgufTensor* tensor = gguf.FindTensor(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "tensor {} is missing: the file is incomplete, or not of the architecture it claims",
        name));
  }
  if (!HasDims(*tensor, dims)) {
    return absl::InvalidArgumentError(
        fmt::format("tensor {} has shape {}, but the hyper-parameters ask for {}", name,
                    ShapeText(*tensor), ShapeText(dims)));
  }
  if (!IsComputable(tensor->dtype)) {
    return absl::UnimplementedError(fmt::format(
        "tensor {} is stored as {}, a format that cannot be computed with; use a file quantized "
        "otherwise",
        name, NameOf(tensor->dtype)));
  }
  return tensor;
}

MatrixView ShapeOf(const GgufTensor& tensor, int64_t cols) {
  int64_t values = 1;
  for (const int64_t dim : tensor.dims) values *= dim;
  return {.data = nullptr, .dtype = tensor.dtype, .rows = values / cols, .cols = cols};
}

// Walks over what a config asks for, collecting tensors; the first error stops the collecting.
class TrunkWalk {
 public:
  TrunkWalk(const GgufModel& gguf, const ModelConfig& config) : gguf_(gguf), config_(config) {}

  void Model(TrunkWeights& weights);
  void Layer(int layer, LayerWeights& weights);
  // Of the layer walked last.
  void Mtp(MtpWeights& weights);

  absl::StatusOr<std::vector<TrunkTensor>> Take() {
    if (!status_.ok()) return status_;
    return std::move(tensors_);
  }

 private:
  void GroupedAttention(AttentionWeights& w);
  void LatentAttention(AttentionWeights& w);
  void LatentUp(AttentionWeights& w);
  void FeedForward(Part part, std::string_view suffix, int64_t width, FeedForwardWeights& w);
  void Mixture(int layer, LayerWeights& w);

  // `name` within the layer that is being walked.
  std::string InLayer(std::string_view name) const { return fmt::format("{}{}", prefix_, name); }
  bool Has(std::string_view name) const { return gguf_.FindTensor(InLayer(name)) != nullptr; }

  void Matrix(Part part, std::string_view name, int64_t in, int64_t out, MatrixView& view) {
    MatrixOf(part, name, {in, out, 1}, view);
  }
  void MatrixOf(Part part, std::string_view name, const Dims& dims, MatrixView& view);
  void Vector(Part part, std::string_view name, int64_t count, const float*& vector);
  void VectorIfThere(Part part, std::string_view name, int64_t count, const float*& vector) {
    if (Has(name)) Vector(part, name, count, vector);
  }

  const GgufModel& gguf_;
  const ModelConfig& config_;
  std::string prefix_;
  absl::Status status_;
  std::vector<TrunkTensor> tensors_;
};

void TrunkWalk::MatrixOf(Part part, std::string_view name, const Dims& dims, MatrixView& view) {
  if (!status_.ok()) return;
  const absl::StatusOr<const GgufTensor*> tensor = Require(gguf_, InLayer(name), dims);
  if (!tensor.ok()) {
    status_ = tensor.status();
    return;
  }
  view = ShapeOf(**tensor, dims[0]);
  tensors_.push_back({.source = *tensor, .part = part, .matrix = &view});
}

void TrunkWalk::Vector(Part part, std::string_view name, int64_t count, const float*& vector) {
  if (!status_.ok()) return;
  const absl::StatusOr<const GgufTensor*> tensor = Require(gguf_, InLayer(name), {count, 1, 1});
  if (!tensor.ok()) {
    status_ = tensor.status();
    return;
  }
  tensors_.push_back({.source = *tensor, .part = part, .vector = &vector});
}

void TrunkWalk::Model(TrunkWeights& w) {
  const ModelConfig& c = config_;
  prefix_.clear();
  w.is_tied = !Has("output.weight");
  // Untied, the embedding is read by row and its data stays in the file.
  Matrix(Part::kEmbedding, "token_embd.weight", c.hidden, c.vocab_count, w.embedding);
  if (!w.is_tied && status_.ok()) tensors_.pop_back();
  if (!w.is_tied) Matrix(Part::kHead, "output.weight", c.hidden, c.vocab_count, w.output);
  Vector(Part::kNorm, "output_norm.weight", c.hidden, w.output_norm);
  VectorIfThere(Part::kOther, "rope_freqs.weight", c.rope.dims / 2, w.rope_divisors);
}

void TrunkWalk::Layer(int layer, LayerWeights& w) {
  const ModelConfig& c = config_;
  prefix_ = fmt::format("blk.{}.", layer);
  Vector(Part::kNorm, "attn_norm.weight", c.hidden, w.attention.norm);
  if (c.attention == AttentionKind::kLatent) {
    LatentAttention(w.attention);
  } else {
    GroupedAttention(w.attention);
  }
  Vector(Part::kNorm, "ffn_norm.weight", c.hidden, w.ffn_norm);
  if (c.layer_is_moe(layer)) {
    Mixture(layer, w);
  } else {
    FeedForward(Part::kDense, "", c.dense_ffn, w.dense);
  }
}

void TrunkWalk::Mtp(MtpWeights& w) {
  const ModelConfig& c = config_;
  Vector(Part::kMtp, "nextn.enorm.weight", c.hidden, w.embedding_norm);
  Vector(Part::kMtp, "nextn.hnorm.weight", c.hidden, w.state_norm);
  Matrix(Part::kMtp, "nextn.eh_proj.weight", 2 * int64_t{c.hidden}, c.hidden, w.join);
  VectorIfThere(Part::kMtp, "nextn.shared_head_norm.weight", c.hidden, w.output_norm);
  if (Has("nextn.shared_head_head.weight")) {
    Matrix(Part::kMtp, "nextn.shared_head_head.weight", c.hidden, c.vocab_count, w.output);
  }
  // Read by row, also where the head keeps the model's own in memory: that may be a device's.
  const bool has_own = Has("nextn.embed_tokens.weight");
  if (!has_own) prefix_.clear();
  const std::string_view name = has_own ? "nextn.embed_tokens.weight" : "token_embd.weight";
  w.embedding_name = InLayer(name);
  Matrix(Part::kEmbedding, name, c.hidden, c.vocab_count, w.embedding);
  if (status_.ok()) tensors_.pop_back();
}

void TrunkWalk::GroupedAttention(AttentionWeights& w) {
  const ModelConfig& c = config_;
  const int64_t q_width = int64_t{c.head_count} * c.key_dim;
  const int64_t k_width = int64_t{c.kv_head_count} * c.key_dim;
  const int64_t v_width = int64_t{c.kv_head_count} * c.value_dim;
  Matrix(Part::kAttention, "attn_q.weight", c.hidden, q_width, w.q);
  Matrix(Part::kAttention, "attn_k.weight", c.hidden, k_width, w.k);
  Matrix(Part::kAttention, "attn_v.weight", c.hidden, v_width, w.v);
  if (c.qkv_bias) {
    Vector(Part::kAttention, "attn_q.bias", q_width, w.q_bias);
    Vector(Part::kAttention, "attn_k.bias", k_width, w.k_bias);
    Vector(Part::kAttention, "attn_v.bias", v_width, w.v_bias);
  }
  if (c.qk_norm != ModelConfig::QkNorm::kNone) {
    const bool is_whole = c.qk_norm == ModelConfig::QkNorm::kWhole;
    Vector(Part::kNorm, "attn_q_norm.weight", is_whole ? q_width : c.key_dim, w.q_norm);
    Vector(Part::kNorm, "attn_k_norm.weight", is_whole ? k_width : c.key_dim, w.k_norm);
  }
  Matrix(Part::kAttention, "attn_output.weight", int64_t{c.head_count} * c.value_dim, c.hidden,
         w.output);
}

void TrunkWalk::LatentAttention(AttentionWeights& w) {
  const ModelConfig& c = config_;
  const int64_t q_width = int64_t{c.head_count} * c.key_dim;
  if (c.q_rank > 0) {
    Matrix(Part::kAttention, "attn_q_a.weight", c.hidden, c.q_rank, w.q_a);
    Vector(Part::kNorm, "attn_q_a_norm.weight", c.q_rank, w.q_a_norm);
    Matrix(Part::kAttention, "attn_q_b.weight", c.q_rank, q_width, w.q_b);
  } else {
    Matrix(Part::kAttention, "attn_q.weight", c.hidden, q_width, w.q);
  }
  Matrix(Part::kAttention, "attn_kv_a_mqa.weight", c.hidden, c.kv_rank + c.rope.dims, w.kv_a);
  Vector(Part::kNorm, "attn_kv_a_norm.weight", c.kv_rank, w.kv_a_norm);
  LatentUp(w);
  Matrix(Part::kAttention, "attn_output.weight", int64_t{c.head_count} * c.value_dim, c.hidden,
         w.output);
}

// Three layouts: k_b and v_b by head (3-D), the same flattened (2-D), or kv_b as the checkpoint has
// it.
void TrunkWalk::LatentUp(AttentionWeights& w) {
  const ModelConfig& c = config_;
  const int64_t plain_dim = c.key_dim - c.rope.dims;
  if (!Has("attn_k_b.weight") && Has("attn_kv_b.weight")) {
    w.value_head_rows = plain_dim + c.value_dim;
    w.value_first_row = plain_dim;
    Matrix(Part::kAttention, "attn_kv_b.weight", c.kv_rank, c.head_count * w.value_head_rows,
           w.value_up);
    if (!status_.ok()) return;
    w.key_up = {.data = nullptr,
                .dtype = TransposedDtype(w.value_up.dtype),
                .rows = int64_t{c.head_count} * c.kv_rank,
                .cols = plain_dim};
    tensors_.back().transposed = &w.key_up;
    return;
  }
  const auto by_head = [&](std::string_view name, int64_t in, int64_t out, MatrixView& view) {
    const GgufTensor* tensor = gguf_.FindTensor(InLayer(name));
    const Dims flat = {in, out * c.head_count, 1};
    const bool is_flat = tensor != nullptr && HasDims(*tensor, flat);
    MatrixOf(Part::kAttention, name, is_flat ? flat : Dims{in, out, c.head_count}, view);
  };
  by_head("attn_k_b.weight", plain_dim, c.kv_rank, w.key_up);
  by_head("attn_v_b.weight", c.kv_rank, c.value_dim, w.value_up);
  w.value_head_rows = c.value_dim;
  w.value_first_row = 0;
}

void TrunkWalk::FeedForward(Part part, std::string_view suffix, int64_t width,
                            FeedForwardWeights& w) {
  const int64_t hidden = config_.hidden;
  Matrix(part, fmt::format("ffn_gate{}.weight", suffix), hidden, width, w.gate);
  Matrix(part, fmt::format("ffn_up{}.weight", suffix), hidden, width, w.up);
  Matrix(part, fmt::format("ffn_down{}.weight", suffix), width, hidden, w.down);
}

void TrunkWalk::Mixture(int layer, LayerWeights& w) {
  const ModelConfig& c = config_;
  Matrix(Part::kRouter, "ffn_gate_inp.weight", c.hidden, c.expert_count, w.router);
  VectorIfThere(Part::kRouter, "exp_probs_b.bias", c.expert_count, w.router_bias);
  if (c.shared_ffn > 0) FeedForward(Part::kShared, "_shexp", c.shared_ffn, w.shared);
  if (c.shared_gate) Matrix(Part::kShared, "ffn_gate_inp_shexp.weight", c.hidden, 1, w.shared_gate);
  if (!status_.ok()) return;
  absl::StatusOr<ExpertTensors> experts = DescribeExperts(gguf_, c, layer);
  if (experts.ok()) {
    w.experts = experts->shape;
  } else {
    status_ = experts.status();
  }
}

}  // namespace

absl::StatusOr<std::vector<TrunkTensor>> DescribeTrunk(const GgufModel& gguf, const ModelSpec& spec,
                                                       TrunkWeights& weights) {
  const int layer_count = spec.config.layer_count + (spec.with_mtp ? 1 : 0);
  weights = TrunkWeights();
  weights.layers.resize(static_cast<size_t>(layer_count));
  TrunkWalk walk(gguf, spec.config);
  walk.Model(weights);
  for (int layer = 0; layer < layer_count; ++layer) {
    walk.Layer(layer, weights.layers[static_cast<size_t>(layer)]);
  }
  if (spec.with_mtp) walk.Mtp(weights.mtp);
  return walk.Take();
}

absl::StatusOr<ExpertTensors> DescribeExperts(const GgufModel& gguf, const ModelConfig& c,
                                              int layer) {
  const auto name = [&](std::string_view matrix) {
    return fmt::format("blk.{}.ffn_{}_exps.weight", layer, matrix);
  };
  if (gguf.FindTensor(fmt::format("blk.{}.ffn_gate.0.weight", layer)) != nullptr) {
    return absl::UnimplementedError(fmt::format(
        "blk.{} has a tensor for each expert (ffn_gate.0.weight, ...), the layout of files made "
        "before April 2024; convert the model again, which merges them",
        layer));
  }
  ExpertTensors experts;
  FeedForwardWeights& views = experts.shape.views;
  experts.shape.is_fused = gguf.FindTensor(name("gate_up")) != nullptr;
  if (experts.shape.is_fused) {
    ASSIGN_OR_RETURN(const GgufTensor* gate_up,
                     Require(gguf, name("gate_up"), {c.hidden, 2 * c.expert_ffn, c.expert_count}));
    experts.parts.push_back(gate_up);
    views.gate = {.dtype = gate_up->dtype, .rows = c.expert_ffn, .cols = c.hidden};
    views.up = views.gate;
  } else {
    ASSIGN_OR_RETURN(const GgufTensor* gate,
                     Require(gguf, name("gate"), {c.hidden, c.expert_ffn, c.expert_count}));
    ASSIGN_OR_RETURN(const GgufTensor* up,
                     Require(gguf, name("up"), {c.hidden, c.expert_ffn, c.expert_count}));
    experts.parts = {gate, up};
    views.gate = {.dtype = gate->dtype, .rows = c.expert_ffn, .cols = c.hidden};
    views.up = {.dtype = up->dtype, .rows = c.expert_ffn, .cols = c.hidden};
  }
  ASSIGN_OR_RETURN(const GgufTensor* down,
                   Require(gguf, name("down"), {c.expert_ffn, c.hidden, c.expert_count}));
  experts.parts.push_back(down);
  views.down = {.dtype = down->dtype, .rows = c.hidden, .cols = c.expert_ffn};
  return experts;
}

Dtype TransposedDtype(Dtype source) {
  const bool is_float = source == Dtype::kF32 || source == Dtype::kF16 || source == Dtype::kBF16;
  return is_float ? source : Dtype::kF16;
}

}  // namespace stoker
