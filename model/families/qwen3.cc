// Qwen3, dense: a norm on each head of q and k.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadQwen3Config(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.qk_norm = ModelConfig::QkNorm::kPerHead;
  return config;
}

}  // namespace stoker
