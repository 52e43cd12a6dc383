// Qwen2 and Qwen2.5, dense: biases on q, k and v.
#include "base/status.h"
#include "model/families/common.h"
#include "model/families/families.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadQwen2Config(const GgufModel& gguf) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadTrunkConfig(gguf));
  config.qkv_bias = true;
  return config;
}

}  // namespace stoker
