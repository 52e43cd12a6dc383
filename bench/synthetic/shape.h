// The shape of a synthetic model: true dimensions, made-up weights.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "bench/synthetic/gguf_stream.h"

namespace stoker {

struct SyntheticShape {
  std::string_view name;
  std::string_view description;
  std::string_view
      arch;  // general.architecture; llama, qwen2, qwen2moe, qwen3, qwen3moe, olmoe, deepseek2
  int hidden = 0;
  int layers = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab = 0;
  int dense_ffn = 0;     // width of dense layers; 0 when there are none
  int dense_layers = 0;  // leading dense layers of a MoE model
  int experts = 0;       // 0: dense
  int experts_used = 0;
  int expert_ffn = 0;
  int shared_ffn = 0;
  int q_rank = 0;  // deepseek2
  int kv_rank = 0;
  int rope_dim = 0;  // deepseek2: rotated part
  int groups = 1;
  int groups_used = 1;
  // Formats: most weights, and those that the usual mixes give more bits (every third layer's down,
  // attention values, head).
  Dtype base = Dtype::kQ4_K;
  Dtype high = Dtype::kQ6_K;
  // Popularity of experts: p(rank r) is about proportional to r^-skew within a layer, 0 for
  // uniform.
  double skew = 0.7;
  uint64_t seed = 1;
};

absl::Span<const SyntheticShape> SyntheticShapes();
absl::StatusOr<SyntheticShape> FindSyntheticShape(std::string_view name);

// Declares the model's metadata and tensors on `stream`, ready to Write.
absl::Status DeclareSynthetic(const SyntheticShape& shape, GgufStream& stream);

}  // namespace stoker
