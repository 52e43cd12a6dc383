// Hyper-parameters of a transformer, read from a file by its family and checked once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace stoker {

enum class AttentionKind : uint8_t {
  kGrouped,  // heads share key-value heads
  kLatent  // DeepSeek's MLA: one compressed latent and one rotated part per position, shared by all
           // heads
};

struct RopeConfig {
  RopePairing pairing = RopePairing::kHalves;
  int dims = 0;  // rotated values per head, even
  double base = 10000;
  std::vector<float> frequencies;  // [dims / 2], scaling (YaRN, Llama-3 factors) included
  float magnitude = 1;             // multiplies cos and sin
};

struct RouterConfig {
  RouterArgs::Score score = RouterArgs::Score::kSoftmax;
  RouterArgs::GroupScore group_score = RouterArgs::GroupScore::kSumOfTopTwo;
  int group_count = 1;
  int groups_used = 1;
  bool normalize = false;
  float weight_scale = 1;
};

struct ModelConfig {
  std::string arch;         // general.architecture
  std::string name;         // general.name, or empty
  int layer_count = 0;      // trunk layers; multi-token-prediction layers are not among them
  int mtp_layer_count = 0;  // carried by the file; ModelSpec::with_mtp tells what becomes of them
  int hidden = 0;
  int vocab_count = 0;
  int context_max = 0;  // positions the model was made for
  float norm_epsilon = 0;

  AttentionKind attention = AttentionKind::kGrouped;
  int head_count = 0;
  int kv_head_count = 0;  // kGrouped
  int key_dim = 0;        // per head; kLatent: nope + rope part
  int value_dim = 0;
  int q_rank = 0;         // kLatent: query compression, 0 for none
  int kv_rank = 0;        // kLatent: width of the latent
  bool qkv_bias = false;  // qwen2
  enum class QkNorm : uint8_t { kNone, kPerHead, kWhole } qk_norm = QkNorm::kNone;
  float attention_scale = 1;
  RopeConfig rope;

  int dense_ffn = 0;  // width of dense layers' feed-forward
  int leading_dense_layers = 0;
  int expert_count = 0;  // 0: a dense model
  int experts_used = 0;
  int expert_ffn = 0;
  int shared_ffn = 0;        // width of the shared expert(s) merged, 0 for none
  bool shared_gate = false;  // shared expert scaled by sigmoid(gate . x)
  RouterConfig router;

  bool layer_is_moe(int layer) const { return expert_count > 0 && layer >= leading_dense_layers; }
};

}  // namespace stoker
