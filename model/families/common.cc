// Reading and checking the hyper-parameters that all families share.
#include "model/families/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/status.h"
#include "model/rope.h"

namespace stoker {
namespace {

// Far above every model there is, far below where products of two of them overflow 64 bits.
constexpr int64_t kLayersMax = 1024;
constexpr int64_t kWidthMax = int64_t{1} << 20;
constexpr int64_t kHeadsMax = 1024;
constexpr int64_t kHeadDimMax = 4096;
constexpr int64_t kContextMax = int64_t{1} << 24;
constexpr int64_t kVocabMax = int64_t{1} << 24;

// An integer that files may write once or once a layer; the forward pass needs it the same in all.
// `fallback` < 0: the key is required.
absl::StatusOr<int64_t> UniformInt(const GgufModel& gguf, const std::string& key, int64_t fallback,
                                   int64_t min, int64_t max) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> values, gguf.Ints(key));
  if (values.empty()) {
    if (fallback >= 0) return fallback;
    return absl::InvalidArgumentError(fmt::format("{} is missing", key));
  }
  for (const int64_t value : values) {
    if (value < min || value > max) {
      return absl::InvalidArgumentError(
          fmt::format("{} is {}, outside [{}, {}]", key, value, min, max));
    }
    if (value != values[0]) {
      return absl::UnimplementedError(fmt::format(
          "{} differs from layer to layer ({} and {}): not supported", key, values[0], value));
    }
  }
  return values[0];
}

absl::Status ReadSizes(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  ASSIGN_OR_RETURN(const int64_t blocks, gguf.Int(key("block_count"), 1, kLayersMax));
  ASSIGN_OR_RETURN(const int64_t mtp, gguf.Int(key("nextn_predict_layers"), 0, 0, blocks - 1));
  ASSIGN_OR_RETURN(const int64_t hidden, gguf.Int(key("embedding_length"), 1, kWidthMax));
  ASSIGN_OR_RETURN(const int64_t context, gguf.Int(key("context_length"), 1, kContextMax));
  // Inside the window a sliding attention is a full one; beyond it we would be wrong.
  ASSIGN_OR_RETURN(const int64_t window,
                   gguf.Int(key("attention.sliding_window"), 0, 0, int64_t{1} << 40));
  ASSIGN_OR_RETURN(const double epsilon, gguf.Float(key("attention.layer_norm_rms_epsilon"), -1.0));
  if (!(epsilon > 0 && epsilon < 1)) {
    return absl::InvalidArgumentError(
        fmt::format("{} must be above 0 and below 1", key("attention.layer_norm_rms_epsilon")));
  }
  ASSIGN_OR_RETURN(const int64_t dense_ffn,
                   UniformInt(gguf, key("feed_forward_length"), 0, 0, kWidthMax));
  config.layer_count = static_cast<int>(blocks - mtp);
  config.mtp_layer_count = static_cast<int>(mtp);
  config.hidden = static_cast<int>(hidden);
  config.context_max = static_cast<int>(window > 0 ? std::min(context, window) : context);
  config.norm_epsilon = static_cast<float>(epsilon);
  config.dense_ffn = static_cast<int>(dense_ffn);
  return absl::OkStatus();
}

absl::Status ReadVocabulary(const GgufModel& gguf, ModelConfig& config) {
  const GgufTensor* embedding = gguf.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return absl::InvalidArgumentError(
        "tensor token_embd.weight is missing: the file holds a vocabulary only, or a part of a "
        "model");
  }
  const int64_t vocab = embedding->dims[1];
  if (vocab < 1 || vocab > kVocabMax) {
    return absl::InvalidArgumentError(
        fmt::format("token_embd.weight has {} rows, outside [1, {}]", vocab, kVocabMax));
  }
  ASSIGN_OR_RETURN(const int64_t declared,
                   gguf.Int(ArchKey(config.arch, "vocab_size"), vocab, 1, kVocabMax));
  if (declared != vocab) {
    return absl::InvalidArgumentError(fmt::format("{} is {}, but token_embd.weight has {} rows",
                                                  ArchKey(config.arch, "vocab_size"), declared,
                                                  vocab));
  }
  config.vocab_count = static_cast<int>(vocab);
  return absl::OkStatus();
}

absl::Status ReadHeads(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  ASSIGN_OR_RETURN(const int64_t heads,
                   UniformInt(gguf, key("attention.head_count"), -1, 1, kHeadsMax));
  ASSIGN_OR_RETURN(const int64_t kv_heads,
                   UniformInt(gguf, key("attention.head_count_kv"), heads, 1, kHeadsMax));
  const int64_t default_dim = std::max<int64_t>(1, config.hidden / heads);
  ASSIGN_OR_RETURN(const int64_t key_dim,
                   gguf.Int(key("attention.key_length"), default_dim, 1, kHeadDimMax));
  ASSIGN_OR_RETURN(const int64_t value_dim,
                   gguf.Int(key("attention.value_length"), default_dim, 1, kHeadDimMax));
  ASSIGN_OR_RETURN(const double scale, gguf.Float(key("attention.scale"),
                                                  1.0 / std::sqrt(static_cast<double>(key_dim))));
  config.head_count = static_cast<int>(heads);
  config.kv_head_count = static_cast<int>(kv_heads);
  config.key_dim = static_cast<int>(key_dim);
  config.value_dim = static_cast<int>(value_dim);
  config.attention_scale = static_cast<float>(scale);
  config.qkv_bias = gguf.FindTensor("blk.0.attn_q.bias") != nullptr;
  return absl::OkStatus();
}

absl::Status Require(bool condition, std::string message) {
  return condition ? absl::OkStatus() : absl::InvalidArgumentError(std::move(message));
}

absl::Status CheckHeads(const ModelConfig& c) {
  const int rope_room = c.key_dim - (c.attention == AttentionKind::kLatent ? 1 : 0);
  RETURN_IF_ERROR(Require(c.rope.dims >= 2 && c.rope.dims % 2 == 0 && c.rope.dims <= rope_room,
                          fmt::format("rope.dimension_count is {}: must be even and from 2 to {}",
                                      c.rope.dims, rope_room)));
  if (c.attention == AttentionKind::kLatent) return absl::OkStatus();
  return Require(c.head_count % c.kv_head_count == 0,
                 fmt::format("attention.head_count {} is no multiple of attention.head_count_kv {}",
                             c.head_count, c.kv_head_count));
}

absl::Status CheckExperts(const ModelConfig& c) {
  RETURN_IF_ERROR(Require(c.experts_used >= 1 && c.experts_used <= c.expert_count,
                          fmt::format("expert_used_count is {}, outside [1, expert_count = {}]",
                                      c.experts_used, c.expert_count)));
  RETURN_IF_ERROR(Require(c.expert_ffn >= 1, "the experts' feed-forward width is 0 or missing"));
  RETURN_IF_ERROR(Require(c.leading_dense_layers < c.layer_count,
                          fmt::format("leading_dense_block_count is {} of {} layers",
                                      c.leading_dense_layers, c.layer_count)));
  const RouterConfig& r = c.router;
  RETURN_IF_ERROR(Require(c.expert_count % r.group_count == 0,
                          fmt::format("expert_group_count {} does not divide expert_count {}",
                                      r.group_count, c.expert_count)));
  RETURN_IF_ERROR(Require(
      r.groups_used <= r.group_count,
      fmt::format("expert_group_used_count is {} of {} groups", r.groups_used, r.group_count)));
  const int eligible = c.expert_count / r.group_count * r.groups_used;
  return Require(c.experts_used <= eligible,
                 fmt::format("expert_used_count is {}, but the groups used hold {} experts",
                             c.experts_used, eligible));
}

}  // namespace

std::string ArchKey(std::string_view arch, std::string_view suffix) {
  return fmt::format("{}.{}", arch, suffix);
}

absl::StatusOr<ModelConfig> ReadTrunkConfig(const GgufModel& gguf) {
  ModelConfig config;
  ASSIGN_OR_RETURN(config.arch, gguf.String("general.architecture"));
  ASSIGN_OR_RETURN(config.name, gguf.String("general.name", ""));
  RETURN_IF_ERROR(ReadSizes(gguf, config));
  RETURN_IF_ERROR(ReadVocabulary(gguf, config));
  RETURN_IF_ERROR(ReadHeads(gguf, config));
  ASSIGN_OR_RETURN(config.rope, ReadRope(gguf, config.arch, config.key_dim));
  return config;
}

absl::Status ReadExpertCounts(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  ASSIGN_OR_RETURN(const int64_t count, gguf.Int(key("expert_count"), 0, 0, kExpertsMax));
  ASSIGN_OR_RETURN(const int64_t used, gguf.Int(key("expert_used_count"), 0, 0, kExpertsMax));
  ASSIGN_OR_RETURN(const int64_t groups, gguf.Int(key("expert_group_count"), 1, 0, kExpertsMax));
  ASSIGN_OR_RETURN(const int64_t groups_used,
                   gguf.Int(key("expert_group_used_count"), 1, 0, kExpertsMax));
  ASSIGN_OR_RETURN(const double scale, gguf.Float(key("expert_weights_scale"), 1.0));
  config.expert_count = static_cast<int>(count);
  config.experts_used = static_cast<int>(used);
  config.router.group_count = static_cast<int>(std::max<int64_t>(groups, 1));
  config.router.groups_used = static_cast<int>(std::max<int64_t>(groups_used, 1));
  // Converters write 0 where the checkpoint has no such factor.
  config.router.weight_scale = scale == 0 ? 1.0f : static_cast<float>(scale);
  return absl::OkStatus();
}

absl::Status ReadExpertWidth(const GgufModel& gguf, ModelConfig& config) {
  const int fallback = config.dense_ffn / std::max(config.experts_used, 1);
  ASSIGN_OR_RETURN(const int64_t width, gguf.Int(ArchKey(config.arch, "expert_feed_forward_length"),
                                                 fallback, 1, kWidthMax));
  config.expert_ffn = static_cast<int>(width);
  return absl::OkStatus();
}

absl::Status CheckConfig(const ModelConfig& config) {
  RETURN_IF_ERROR(CheckHeads(config));
  const bool has_dense_layers = config.expert_count == 0 || config.leading_dense_layers > 0;
  if (has_dense_layers) {
    RETURN_IF_ERROR(Require(config.dense_ffn >= 1,
                            "feed_forward_length is missing and the model has dense "
                            "layers"));
  }
  return config.expert_count > 0 ? CheckExperts(config) : absl::OkStatus();
}

}  // namespace stoker
