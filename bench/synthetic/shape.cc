// Metadata and tensors of the synthetic models, by family.
//
// Routing. Every embedding row carries the constant 1 in its first kBiasDims values, which small
// layer outputs leave nearly as they are; a router row holds -skew * ln(rank) spread over those
// values beside its random part, so it acts as a bias on the logit and the expert's popularity
// follows its rank. Ranks are shuffled per layer.
#include "bench/synthetic/shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "bench/synthetic/random_blocks.h"

namespace stoker {
namespace {

constexpr int kBiasDims = 16;
constexpr double kLogitDeviation = 1.0;  // of the random part of router logits
constexpr double kOutputGain = 0.1;      // layers' outputs against the residual stream

constexpr SyntheticShape kShapes[] = {
    {.name = "qwen3moe-9g",
     .description = "qwen3moe, 24 layers, 128 experts top-8, Q4_K/Q6_K: about 9.5 GB",
     .arch = "qwen3moe",
     .hidden = 2048,
     .layers = 24,
     .heads = 32,
     .kv_heads = 4,
     .head_dim = 128,
     .vocab = 32768,
     .experts = 128,
     .experts_used = 8,
     .expert_ffn = 768},
    {.name = "deepseek2-9g",
     .description = "deepseek2, 20 layers, 256 experts top-8, Q4_K/Q6_K: about 9.5 GB",
     .arch = "deepseek2",
     .hidden = 2048,
     .layers = 20,
     .heads = 16,
     .head_dim = 128,
     .vocab = 32768,
     .dense_ffn = 8192,
     .dense_layers = 1,
     .experts = 256,
     .experts_used = 8,
     .expert_ffn = 512,
     .shared_ffn = 512,
     .q_rank = 768,
     .kv_rank = 512,
     .rope_dim = 64,
     .groups = 8,
     .groups_used = 4},
    {.name = "deepseek3-slice",
     .description = "DeepSeek-V3's true layer shape, 3 layers of 61: about 13 GB",
     .arch = "deepseek2",
     .hidden = 7168,
     .layers = 3,
     .heads = 128,
     .head_dim = 128,
     .vocab = 32768,
     .dense_ffn = 18432,
     .dense_layers = 1,
     .experts = 256,
     .experts_used = 8,
     .expert_ffn = 2048,
     .shared_ffn = 2048,
     .q_rank = 1536,
     .kv_rank = 512,
     .rope_dim = 64,
     .groups = 8,
     .groups_used = 4},
    {.name = "mixtral-slice",
     .description = "Mixtral 8x7B's true layer shape, 4 layers of 32: about 3.5 GB",
     .arch = "llama",
     .hidden = 4096,
     .layers = 4,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 128,
     .vocab = 32000,
     .experts = 8,
     .experts_used = 2,
     .expert_ffn = 14336},
    {.name = "olmoe",
     .description = "OLMoE 1B-7B: about 4 GB",
     .arch = "olmoe",
     .hidden = 2048,
     .layers = 16,
     .heads = 16,
     .kv_heads = 16,
     .head_dim = 128,
     .vocab = 50304,
     .experts = 64,
     .experts_used = 8,
     .expert_ffn = 1024},
    {.name = "qwen2moe",
     .description = "Qwen1.5-MoE-like: shared expert with a gate, about 4 GB",
     .arch = "qwen2moe",
     .hidden = 2048,
     .layers = 12,
     .heads = 16,
     .kv_heads = 16,
     .head_dim = 128,
     .vocab = 32768,
     .experts = 60,
     .experts_used = 4,
     .expert_ffn = 1536,
     .shared_ffn = 5632},
    {.name = "qwen3-dense",
     .description = "dense qwen3, 8 layers: about 0.4 GB",
     .arch = "qwen3",
     .hidden = 2048,
     .layers = 8,
     .heads = 16,
     .kv_heads = 8,
     .head_dim = 128,
     .vocab = 32768,
     .dense_ffn = 6144},
    {.name = "qwen2-dense",
     .description = "dense qwen2, 8 layers: about 0.4 GB",
     .arch = "qwen2",
     .hidden = 2048,
     .layers = 8,
     .heads = 16,
     .kv_heads = 2,
     .head_dim = 128,
     .vocab = 32768,
     .dense_ffn = 8192},
    {.name = "tiny-qwen3moe",
     .description = "qwen3moe small enough for a smoke test",
     .arch = "qwen3moe",
     .hidden = 256,
     .layers = 3,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 512,
     .experts = 16,
     .experts_used = 4,
     .expert_ffn = 256},
};

// Declares tensors with their random contents; one generator per tensor, so order does not matter.
class Declarer {
 public:
  Declarer(const SyntheticShape& shape, GgufStream& stream) : shape_(shape), stream_(stream) {}

  void Declare() {
    Metadata();
    Vocabulary();
    Embedding();
    Weight("output.weight", shape_.high, {shape_.hidden, shape_.vocab});
    Norm("output_norm.weight", shape_.hidden);
    for (int layer = 0; layer < shape_.layers; ++layer) Layer(layer);
  }

 private:
  std::string Key(std::string_view name) const { return fmt::format("{}.{}", shape_.arch, name); }
  void Uint(std::string_view name, int value) {
    stream_.Uint(Key(name), static_cast<uint32_t>(value));
  }
  std::string Name(int layer, std::string_view name) const {
    return fmt::format("blk.{}.{}", layer, name);
  }
  uint64_t NextSeed() { return shape_.seed * 1000003 + ++tensor_count_; }

  // A row length that the wanted format cannot hold gets Q8_0, as the usual quantizers do.
  Dtype Fitting(Dtype wanted, int64_t cols) const {
    if (cols % InfoOf(wanted).block_values == 0) return wanted;
    return cols % 32 == 0 ? Dtype::kQ8_0 : Dtype::kF16;
  }

  void Weight(const std::string& name, Dtype wanted, std::vector<int64_t> dims, double gain = 1) {
    const Dtype dtype = Fitting(wanted, dims[0]);
    const int64_t slab = dims[0] * dims[1];
    const double deviation = gain / std::sqrt(static_cast<double>(dims[0]));
    auto random = std::make_shared<FastRandom>(NextSeed());
    stream_.Tensor(name, dtype, std::move(dims),
                   [=] { return RandomBlocks(dtype, slab, deviation, *random); });
  }
  void Constant(const std::string& name, int64_t count, float value) {
    stream_.Tensor(name, Dtype::kF32, {count}, [=] {
      return EncodeValues(Dtype::kF32, std::vector<float>(static_cast<size_t>(count), value));
    });
  }
  void Norm(const std::string& name, int64_t count) { Constant(name, count, 1.0f); }

  void Metadata();
  void LatentMetadata();
  void ExpertMetadata();
  void Vocabulary();
  void Embedding();
  void Layer(int layer);
  void GroupedAttention(int layer);
  void LatentAttention(int layer);
  void Router(int layer);
  void Experts(int layer);

  const SyntheticShape& shape_;
  GgufStream& stream_;
  uint64_t tensor_count_ = 0;
};

void Declarer::Metadata() {
  stream_.String("general.architecture", shape_.arch);
  stream_.String("general.name", fmt::format("synthetic {}", shape_.name));
  stream_.Uint("general.quantization_version", 2);
  stream_.Uint("general.file_type", 15);
  Uint("block_count", shape_.layers);
  Uint("context_length", 32768);
  Uint("embedding_length", shape_.hidden);
  Uint("vocab_size", shape_.vocab);
  const int dense = shape_.dense_ffn != 0 ? shape_.dense_ffn : shape_.expert_ffn;
  Uint("feed_forward_length", dense);
  Uint("attention.head_count", shape_.heads);
  stream_.Float(Key("attention.layer_norm_rms_epsilon"), 1e-6f);
  stream_.Float(Key("rope.freq_base"), 1e6f);
  if (shape_.kv_rank != 0) {
    LatentMetadata();
  } else {
    Uint("attention.head_count_kv", shape_.kv_heads);
    Uint("attention.key_length", shape_.head_dim);
    Uint("attention.value_length", shape_.head_dim);
    Uint("rope.dimension_count", shape_.head_dim);
  }
  if (shape_.experts != 0) ExpertMetadata();
}

void Declarer::LatentMetadata() {
  Uint("attention.head_count_kv", 1);
  Uint("attention.key_length", shape_.kv_rank + shape_.rope_dim);
  Uint("attention.value_length", shape_.kv_rank);
  Uint("attention.key_length_mla", shape_.head_dim + shape_.rope_dim);
  Uint("attention.value_length_mla", shape_.head_dim);
  Uint("attention.q_lora_rank", shape_.q_rank);
  Uint("attention.kv_lora_rank", shape_.kv_rank);
  Uint("rope.dimension_count", shape_.rope_dim);
}

void Declarer::ExpertMetadata() {
  Uint("expert_count", shape_.experts);
  Uint("expert_used_count", shape_.experts_used);
  if (shape_.arch != "llama" && shape_.arch != "olmoe") {
    Uint("expert_feed_forward_length", shape_.expert_ffn);
  }
  if (shape_.arch == "qwen2moe") Uint("expert_shared_feed_forward_length", shape_.shared_ffn);
  if (shape_.arch == "deepseek2") {
    Uint("leading_dense_block_count", shape_.dense_layers);
    Uint("expert_shared_count", shape_.shared_ffn / shape_.expert_ffn);
    Uint("expert_group_count", shape_.groups);
    Uint("expert_group_used_count", shape_.groups_used);
    Uint("expert_gating_func", 2);
    stream_.Bool(Key("expert_weights_norm"), true);
    stream_.Float(Key("expert_weights_scale"), 2.5f);
  }
}

// A byte-level vocabulary: 256 bytes, one merge (an empty list is refused by some readers), the
// rest padding.
void Declarer::Vocabulary() {
  std::vector<std::string> tokens;
  const auto utf8 = [](int code) {
    return code < 0x80 ? std::string(1, static_cast<char>(code))
                       : std::string{static_cast<char>(0xC0 | (code >> 6)),
                                     static_cast<char>(0x80 | (code & 63))};
  };
  int next = 256;  // GPT-2's map: printable bytes stand for themselves, the others for U+0100 on
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    tokens.push_back(utf8(printable ? byte : next++));
  }
  tokens.push_back("he");
  std::vector<int32_t> types(static_cast<size_t>(shape_.vocab), 1);
  while (tokens.size() < static_cast<size_t>(shape_.vocab)) {
    types[tokens.size()] = 5;
    tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
  }
  types.back() = 3;
  tokens.back() = "<|endoftext|>";
  stream_.String("tokenizer.ggml.model", "gpt2");
  stream_.String("tokenizer.ggml.pre", "qwen2");
  stream_.Strings("tokenizer.ggml.tokens", tokens);
  stream_.Ints("tokenizer.ggml.token_type", types);
  stream_.Strings("tokenizer.ggml.merges", std::vector<std::string>{"h e"});
  stream_.Uint("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(shape_.vocab - 1));
  stream_.Uint("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(shape_.vocab - 1));
  stream_.Bool("tokenizer.ggml.add_bos_token", false);
}

void Declarer::Embedding() {
  auto random = std::make_shared<FastRandom>(NextSeed());
  const int hidden = shape_.hidden;
  stream_.Tensor("token_embd.weight", Dtype::kQ8_0, {hidden, shape_.vocab}, [=] {
    std::vector<float> row(static_cast<size_t>(hidden));
    for (float& value : row) {
      value = static_cast<float>((random->Uniform() - 0.5) * std::sqrt(12.0));
    }
    std::fill_n(row.begin(), kBiasDims, 1.0f);
    return EncodeValues(Dtype::kQ8_0, row);
  });
}

void Declarer::Layer(int layer) {
  Norm(Name(layer, "attn_norm.weight"), shape_.hidden);
  if (shape_.kv_rank != 0) {
    LatentAttention(layer);
  } else {
    GroupedAttention(layer);
  }
  Norm(Name(layer, "ffn_norm.weight"), shape_.hidden);
  if (shape_.experts != 0 && layer >= shape_.dense_layers) {
    Router(layer);
    Experts(layer);
    return;
  }
  Weight(Name(layer, "ffn_gate.weight"), shape_.base, {shape_.hidden, shape_.dense_ffn});
  Weight(Name(layer, "ffn_up.weight"), shape_.base, {shape_.hidden, shape_.dense_ffn});
  Weight(Name(layer, "ffn_down.weight"), shape_.high, {shape_.dense_ffn, shape_.hidden},
         kOutputGain);
}

void Declarer::GroupedAttention(int layer) {
  const int64_t q = int64_t{shape_.heads} * shape_.head_dim;
  const int64_t kv = int64_t{shape_.kv_heads} * shape_.head_dim;
  Weight(Name(layer, "attn_q.weight"), shape_.base, {shape_.hidden, q});
  Weight(Name(layer, "attn_k.weight"), shape_.base, {shape_.hidden, kv});
  Weight(Name(layer, "attn_v.weight"), shape_.high, {shape_.hidden, kv});
  Weight(Name(layer, "attn_output.weight"), shape_.base, {q, shape_.hidden}, kOutputGain);
  if (shape_.arch == "qwen3" || shape_.arch == "qwen3moe") {
    Norm(Name(layer, "attn_q_norm.weight"), shape_.head_dim);
    Norm(Name(layer, "attn_k_norm.weight"), shape_.head_dim);
  } else if (shape_.arch == "olmoe") {
    Norm(Name(layer, "attn_q_norm.weight"), q);
    Norm(Name(layer, "attn_k_norm.weight"), kv);
  } else if (shape_.arch == "qwen2" || shape_.arch == "qwen2moe") {
    Constant(Name(layer, "attn_q.bias"), q, 0.1f);
    Constant(Name(layer, "attn_k.bias"), kv, 0.1f);
    Constant(Name(layer, "attn_v.bias"), kv, 0.1f);
  }
}

void Declarer::LatentAttention(int layer) {
  const int64_t key = shape_.head_dim + shape_.rope_dim;
  Weight(Name(layer, "attn_q_a.weight"), shape_.base, {shape_.hidden, shape_.q_rank});
  Norm(Name(layer, "attn_q_a_norm.weight"), shape_.q_rank);
  Weight(Name(layer, "attn_q_b.weight"), shape_.base, {shape_.q_rank, shape_.heads * key});
  Weight(Name(layer, "attn_kv_a_mqa.weight"), shape_.base,
         {shape_.hidden, shape_.kv_rank + shape_.rope_dim});
  Norm(Name(layer, "attn_kv_a_norm.weight"), shape_.kv_rank);
  Weight(Name(layer, "attn_k_b.weight"), Dtype::kQ8_0,
         {shape_.head_dim, shape_.kv_rank, shape_.heads});
  Weight(Name(layer, "attn_v_b.weight"), Dtype::kQ8_0,
         {shape_.kv_rank, shape_.head_dim, shape_.heads});
  Weight(Name(layer, "attn_output.weight"), shape_.base,
         {int64_t{shape_.heads} * shape_.head_dim, shape_.hidden}, kOutputGain);
}

void Declarer::Router(int layer) {
  auto random = std::make_shared<FastRandom>(NextSeed());
  std::vector<int> ranks(static_cast<size_t>(shape_.experts));
  std::iota(ranks.begin(), ranks.end(), 1);
  for (size_t i = ranks.size(); i > 1; --i) std::swap(ranks[i - 1], ranks[random->Next() % i]);
  const SyntheticShape shape = shape_;
  auto next = std::make_shared<size_t>(0);
  stream_.Tensor(
      Name(layer, "ffn_gate_inp.weight"), Dtype::kF32, {shape_.hidden, shape_.experts}, [=] {
        std::vector<float> row(static_cast<size_t>(shape.hidden));
        const double deviation = kLogitDeviation / std::sqrt(static_cast<double>(shape.hidden));
        for (float& value : row) {
          value = static_cast<float>((random->Uniform() - 0.5) * std::sqrt(12.0) * deviation);
        }
        const double bias = -shape.skew * std::log(static_cast<double>(ranks[(*next)++]));
        std::fill_n(row.begin(), kBiasDims, static_cast<float>(bias / kBiasDims));
        return EncodeValues(Dtype::kF32, row);
      });
  if (shape_.arch == "deepseek2") Constant(Name(layer, "exp_probs_b.bias"), shape_.experts, 0.0f);
}

void Declarer::Experts(int layer) {
  // The usual mix gives a third of the down matrices, and both ends of the stack, more bits.
  const int eighth = shape_.layers / 8;
  const bool more = layer < eighth || layer >= shape_.layers - eighth || (layer - eighth) % 3 == 2;
  const Dtype down = more ? shape_.high : shape_.base;
  const int64_t h = shape_.hidden, e = shape_.experts;
  Weight(Name(layer, "ffn_gate_exps.weight"), shape_.base, {h, shape_.expert_ffn, e});
  Weight(Name(layer, "ffn_up_exps.weight"), shape_.base, {h, shape_.expert_ffn, e});
  Weight(Name(layer, "ffn_down_exps.weight"), down, {shape_.expert_ffn, h, e}, kOutputGain);
  if (shape_.shared_ffn == 0) return;
  Weight(Name(layer, "ffn_gate_shexp.weight"), shape_.base, {h, shape_.shared_ffn});
  Weight(Name(layer, "ffn_up_shexp.weight"), shape_.base, {h, shape_.shared_ffn});
  Weight(Name(layer, "ffn_down_shexp.weight"), down, {shape_.shared_ffn, h}, kOutputGain);
  if (shape_.arch == "qwen2moe") Constant(Name(layer, "ffn_gate_inp_shexp.weight"), h, 0.001f);
}

}  // namespace

absl::Span<const SyntheticShape> SyntheticShapes() { return kShapes; }

absl::StatusOr<SyntheticShape> FindSyntheticShape(std::string_view name) {
  std::string known;
  for (const SyntheticShape& shape : kShapes) {
    if (shape.name == name) return shape;
    known += fmt::format(" {}", shape.name);
  }
  return absl::InvalidArgumentError(fmt::format("no shape is called '{}'; known:{}", name, known));
}

absl::Status DeclareSynthetic(const SyntheticShape& shape, GgufStream& stream) {
  if (!CanMakeBlocks(shape.base) || !CanMakeBlocks(shape.high)) {
    return absl::InvalidArgumentError(
        fmt::format("blocks of {} and {} cannot be made", NameOf(shape.base), NameOf(shape.high)));
  }
  Declarer(shape, stream).Declare();
  return absl::OkStatus();
}

}  // namespace stoker
