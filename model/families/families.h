// What each family file defines, for the list in registry.cc.
#pragma once

#include "absl/status/statusor.h"
#include "io/gguf.h"
#include "model/config.h"

namespace stoker {

absl::StatusOr<ModelConfig> ReadDeepseek2Config(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadLlamaConfig(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadOlmoeConfig(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadQwen2Config(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadQwen2MoeConfig(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadQwen3Config(const GgufModel& gguf);
absl::StatusOr<ModelConfig> ReadQwen3MoeConfig(const GgufModel& gguf);

}  // namespace stoker
