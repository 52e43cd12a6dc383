// What the families read in the same way: the hyper-parameters of a decoder-only transformer.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "io/gguf.h"
#include "model/config.h"

namespace stoker {

// "<arch>.<suffix>", as GGUF names its keys.
std::string ArchKey(std::string_view arch, std::string_view suffix);

// Layers, width, vocabulary, context, epsilon, heads, dense feed-forward, and plain or scaled rope
// of an attention whose heads share key-value heads. InvalidArgument naming the key that is missing
// or out of range; Unimplemented for values that differ from layer to layer.
absl::StatusOr<ModelConfig> ReadTrunkConfig(const GgufModel& gguf);

// expert_count and expert_used_count, the router's group keys and weight scale, into `config`.
// Leaves the widths, score and normalization to the family.
absl::Status ReadExpertCounts(const GgufModel& gguf, ModelConfig& config);

// expert_feed_forward_length; where a file lacks it, the dense width shared out over the experts
// used, as the first converters for these families meant it.
absl::Status ReadExpertWidth(const GgufModel& gguf, ModelConfig& config);

// Relations that every config must satisfy before tensor shapes are derived from it.
absl::Status CheckConfig(const ModelConfig& config);

}  // namespace stoker
