// Qwen1.5-MoE and Qwen2-MoE: biases on q, k and v, and a shared expert behind a sigmoid gate.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadQwen2MoeConfig(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.qkv_bias = true;
  RETURN_IF_ERROR(ReadExpertCounts(gguf, config));
  RETURN_IF_ERROR(ReadExpertWidth(gguf, config));
  // Files older than the key have a shared expert as wide as feed_forward_length says.
  ASSIGN_OR_RETURN(const int64_t shared,
                   gguf.Int(ArchKey(config.arch, "expert_shared_feed_forward_length"),
                            config.dense_ffn, 1, 1 << 20));
  config.shared_ffn = static_cast<int>(shared);
  config.shared_gate = true;
  ASSIGN_OR_RETURN(config.router.normalize,
                   gguf.Bool(ArchKey(config.arch, "expert_weights_norm"), false));
  return config;
}

}  // namespace stoker
