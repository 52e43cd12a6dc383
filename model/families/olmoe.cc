// OLMoE: a norm over the whole of q and of k before the split into heads; weights not renormalized.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadOlmoeConfig(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.qk_norm = ModelConfig::QkNorm::kWhole;
  RETURN_IF_ERROR(ReadExpertCounts(gguf, config));
  config.expert_ffn = config.dense_ffn;  // feed_forward_length is the experts' width
  return config;
}

}  // namespace stoker
