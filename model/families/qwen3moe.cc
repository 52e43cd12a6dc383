// Qwen3-MoE (30B-A3B, 235B-A22B): a norm on each head of q and k, softmax router, no shared expert.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadQwen3MoeConfig(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.qk_norm = ModelConfig::QkNorm::kPerHead;
  RETURN_IF_ERROR(ReadExpertCounts(gguf, config));
  RETURN_IF_ERROR(ReadExpertWidth(gguf, config));
  config.router.normalize = true;  // norm_topk_prob, which all published checkpoints set
  return config;
}

}  // namespace stoker
