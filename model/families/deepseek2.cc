// DeepSeek V2, V2-Lite, V3 and R1, and Kimi K2: latent attention, leading dense layers, shared
// experts.
#include <cmath>

#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"
#include "model/rope.h"

namespace stoker {
namespace {

constexpr int64_t kRankMax = 1 << 16;

// With the *_mla keys the file describes the compressed cache in key_length; without them,
// key_length is that of a plain head.
absl::Status ReadLatentAttention(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  config.attention = AttentionKind::kLatent;
  config.kv_head_count = 1;
  ASSIGN_OR_RETURN(const int64_t kv_rank, gguf.Int(key("attention.kv_lora_rank"), 1, kRankMax));
  ASSIGN_OR_RETURN(const int64_t q_rank, gguf.Int(key("attention.q_lora_rank"), 0, 0, kRankMax));
  ASSIGN_OR_RETURN(const int64_t key_dim,
                   gguf.Int(key("attention.key_length_mla"), config.key_dim, 1, kRankMax));
  ASSIGN_OR_RETURN(const int64_t value_dim,
                   gguf.Int(key("attention.value_length_mla"), config.value_dim, 1, kRankMax));
  config.kv_rank = static_cast<int>(kv_rank);
  config.q_rank = static_cast<int>(q_rank);
  config.key_dim = static_cast<int>(key_dim);
  config.value_dim = static_cast<int>(value_dim);
  return absl::OkStatus();
}

// DeepSeek puts YaRN's magnitude on the softmax scale, squared, and leaves cosines and sines alone.
// The file's log multiplier is 0.1 times the one of the checkpoint, a quirk of this architecture.
absl::Status ReadScale(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  config.rope.pairing = RopePairing::kNeighbours;
  config.rope.magnitude = 1;
  double scale = 1.0 / std::sqrt(static_cast<double>(config.key_dim));
  ASSIGN_OR_RETURN(const std::string type, gguf.String(key("rope.scaling.type"), "none"));
  if (std::string_view(type) == "yarn") {
    ASSIGN_OR_RETURN(const double factor, gguf.Float(key("rope.scaling.factor"), 1.0));
    ASSIGN_OR_RETURN(const double multiplier,
                     gguf.Float(key("rope.scaling.yarn_log_multiplier"), 0.0));
    const double magnitude = YarnMagnitude(factor, multiplier / 0.1);
    scale *= magnitude * magnitude;
  }
  config.attention_scale = static_cast<float>(scale);
  return absl::OkStatus();
}

absl::Status ReadRouter(const GgufModel& gguf, ModelConfig& config) {
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  // Files older than the key are V2's, which scores by softmax, but for GLM-4.7-Flash, known by its
  // vocabulary and depth.
  const bool is_glm_flash =
      config.vocab_count == 154880 && (config.layer_count == 47 || config.layer_count == 48);
  ASSIGN_OR_RETURN(int64_t gating, gguf.Int(key("expert_gating_func"), 0, 0, 100));
  if (gating == 0) gating = is_glm_flash ? 2 : 1;
  if (gating > 2) {
    return absl::UnimplementedError(fmt::format(
        "{} is {}; supported are 1 (softmax) and 2 (sigmoid)", key("expert_gating_func"), gating));
  }
  ASSIGN_OR_RETURN(config.router.normalize, gguf.Bool(key("expert_weights_norm"), false));
  // The sigmoid came with V3, and with it the group score of V3.
  config.router.score = gating == 2 ? RouterArgs::Score::kSigmoid : RouterArgs::Score::kSoftmax;
  config.router.group_score =
      gating == 2 ? RouterArgs::GroupScore::kSumOfTopTwo : RouterArgs::GroupScore::kMax;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadDeepseek2Config(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  RETURN_IF_ERROR(ReadLatentAttention(gguf, config));
  RETURN_IF_ERROR(ReadScale(gguf, config));
  RETURN_IF_ERROR(ReadExpertCounts(gguf, config));
  if (config.expert_count == 0) return config;
  const auto key = [&](std::string_view suffix) { return ArchKey(config.arch, suffix); };
  ASSIGN_OR_RETURN(const int64_t dense,
                   gguf.Int(key("leading_dense_block_count"), 0, 0, config.layer_count));
  ASSIGN_OR_RETURN(const int64_t shared, gguf.Int(key("expert_shared_count"), 0, 0, 64));
  config.leading_dense_layers = static_cast<int>(dense);
  RETURN_IF_ERROR(ReadExpertWidth(gguf, config));
  config.shared_ffn = static_cast<int>(shared) * config.expert_ffn;
  RETURN_IF_ERROR(ReadRouter(gguf, config));
  return config;
}

}  // namespace stoker
