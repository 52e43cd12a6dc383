// The list of model families: adding one is its file, and its row here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "model/families/families.h"
#include "model/family.h"

namespace stoker {
namespace {

constexpr Family kFamilies[] = {
    {"deepseek2", "DeepSeek V2, V2-Lite, V3, R1; Kimi K2", &ReadDeepseek2Config},
    {"llama", "Llama, Mistral; Mixtral", &ReadLlamaConfig},
    {"olmoe", "OLMoE", &ReadOlmoeConfig},
    {"qwen2", "Qwen2, Qwen2.5, dense", &ReadQwen2Config},
    {"qwen2moe", "Qwen1.5 and Qwen2 mixture-of-experts", &ReadQwen2MoeConfig},
    {"qwen3", "Qwen3, dense", &ReadQwen3Config},
    {"qwen3moe", "Qwen3 mixture-of-experts", &ReadQwen3MoeConfig},
};

}  // namespace

absl::Span<const Family> Families() { return kFamilies; }

absl::StatusOr<const Family*> FindFamily(std::string_view arch) {
  std::vector<std::string_view> known;
  for (const Family& family : kFamilies) {
    if (family.arch == arch) return &family;
    known.push_back(family.arch);
  }
  return absl::UnimplementedError(fmt::format(
      "architecture \"{}\" is not supported; supported are {}", arch, fmt::join(known, ", ")));
}

}  // namespace stoker
