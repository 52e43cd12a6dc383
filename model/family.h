// What a model family must supply: how to read its hyper-parameters. Names of tensors and the steps
// of a layer follow from the config; a family that needs other names or another step gives them
// here.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/gguf.h"
#include "model/config.h"

namespace stoker {

struct Family {
  std::string_view arch;         // general.architecture
  std::string_view description;  // "DeepSeek V2, V3, R1; Kimi K2"
  absl::StatusOr<ModelConfig> (*read_config)(const GgufModel& gguf);
};

// In families/registry.cc, in order.
absl::Span<const Family> Families();
// Unimplemented, listing the known ones, for any other arch.
absl::StatusOr<const Family*> FindFamily(std::string_view arch);

}  // namespace stoker
