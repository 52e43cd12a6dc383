// Reading what a file holds, and checking it whole, before any tensor data is touched.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "absl/container/flat_hash_map.h"
#include "base/status.h"
#include "model/embedding_table.h"
#include "model/families/common.h"
#include "model/family.h"
#include "model/model.h"
#include "model/trunk_layout.h"
#include "model/weights.h"

namespace stoker {
namespace {

using Part = ModelSpec::Part;

// The N of "blk.N.", or -1.
int LayerOf(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return -1;
  int layer = -1;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, layer);
  return error == std::errc() && stop != end && *stop == '.' ? layer : -1;
}

// Tensors that files carry and no result depends on.
bool IsSpare(const GgufModel& gguf, std::string_view name) {
  // Some DeepSeek files have the keys' and values' matrix in both layouts.
  constexpr std::string_view kOldLatent = ".attn_kv_b.weight";
  if (name.ends_with(kOldLatent)) {
    const std::string_view layer = name.substr(0, name.size() - kOldLatent.size());
    return gguf.FindTensor(fmt::format("{}.attn_k_b.weight", layer)) != nullptr;
  }
  return name.ends_with(".attn_rot_embd.weight") || name.ends_with(".rope_freqs.weight");
}

absl::Status ReadCatalog(const GgufModel& gguf, ModelSpec& spec,
                         absl::flat_hash_map<std::string, Part>& parts) {
  const ModelConfig& c = spec.config;
  const int layer_count = c.layer_count + (spec.with_mtp ? 1 : 0);
  for (int layer = 0; layer < layer_count; ++layer) {
    if (!c.layer_is_moe(layer)) continue;
    ASSIGN_OR_RETURN(const ExpertTensors tensors, DescribeExperts(gguf, c, layer));
    LayerExperts experts;
    experts.layer = layer;
    experts.expert_count = c.expert_count;
    for (const GgufTensor* tensor : tensors.parts) {
      parts[tensor->name] = Part::kExperts;
      const uint64_t bytes = tensor->bytes / static_cast<uint64_t>(c.expert_count);
      const auto part = static_cast<size_t>(experts.part_count++);
      experts.parts[part] = {.file = tensor->file, .offset = tensor->offset, .bytes = bytes};
      experts.stride_bytes[part] = bytes;
    }
    spec.experts.layers.push_back(experts);
  }
  return absl::OkStatus();
}

absl::Status CheckMtp(const ModelConfig& c) {
  if (c.mtp_layer_count > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("the file has no layer for multi-token prediction ({} is 0 or missing): most "
                  "conversions leave it out; try --draft ngram, or a file that carries it",
                  ArchKey(c.arch, "nextn_predict_layers")));
}

// Every tensor gets its part; one that we do not know would change results if left out.
absl::Status ListTensors(const GgufModel& gguf, ModelSpec& spec,
                         const absl::flat_hash_map<std::string, Part>& parts) {
  for (const GgufTensor& tensor : gguf.tensors()) {
    Part part = Part::kOther;
    if (const auto known = parts.find(tensor.name); known != parts.end()) {
      part = known->second;
    } else if (LayerOf(tensor.name) >= spec.config.layer_count && spec.config.mtp_layer_count > 0) {
      part = Part::kMtp;
    } else if (!IsSpare(gguf, tensor.name)) {
      return absl::UnimplementedError(fmt::format(
          "tensor {} is not known for architecture {}; results without it would be wrong",
          tensor.name, spec.config.arch));
    }
    spec.tensors.push_back({.name = tensor.name,
                            .part = part,
                            .dtype = tensor.dtype,
                            .dims = {tensor.dims.begin(), tensor.dims.begin() + tensor.dim_count},
                            .bytes = tensor.bytes});
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view NameOf(ModelSpec::Part part) {
  switch (part) {
    case Part::kEmbedding:
      return "embedding";
    case Part::kAttention:
      return "attention";
    case Part::kNorm:
      return "norms";
    case Part::kRouter:
      return "routers";
    case Part::kDense:
      return "dense feed-forward";
    case Part::kShared:
      return "shared experts";
    case Part::kExperts:
      return "routed experts";
    case Part::kHead:
      return "head";
    case Part::kMtp:
      return "multi-token prediction";
    case Part::kOther:
      break;
  }
  return "other";
}

absl::StatusOr<ModelSpec> ModelSpec::Read(const GgufModel& gguf, const ReadOptions& options) {
  ASSIGN_OR_RETURN(const std::string arch, gguf.String("general.architecture"));
  ModelSpec spec;
  ASSIGN_OR_RETURN(spec.family, FindFamily(arch));
  ASSIGN_OR_RETURN(spec.config, spec.family->read_config(gguf));
  RETURN_IF_ERROR(CheckConfig(spec.config));
  if (options.with_mtp) RETURN_IF_ERROR(CheckMtp(spec.config));
  spec.with_mtp = options.with_mtp;

  TrunkWeights weights;
  ASSIGN_OR_RETURN(const std::vector<TrunkTensor> trunk, DescribeTrunk(gguf, spec, weights));
  absl::flat_hash_map<std::string, Part> parts;
  parts["token_embd.weight"] = Part::kEmbedding;
  if (spec.with_mtp) parts[weights.mtp.embedding_name] = Part::kEmbedding;
  for (const TrunkTensor& tensor : trunk) parts[tensor.source->name] = tensor.part;
  RETURN_IF_ERROR(ReadCatalog(gguf, spec, parts));
  RETURN_IF_ERROR(ListTensors(gguf, spec, parts));

  spec.trunk_bytes = TrunkLayout(trunk).bytes();
  if (!weights.is_tied) spec.embedding_cache_bytes = EmbeddingTable::CacheBytes(weights.embedding);
  if (spec.with_mtp) {
    spec.embedding_cache_bytes += EmbeddingTable::CacheBytes(weights.mtp.embedding);
  }
  return spec;
}

}  // namespace stoker
