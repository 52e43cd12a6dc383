// Everything a run can be told, nested by part, validated once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace stoker {

// A memory budget: bytes, "auto" (what is available less a margin), or "min" (the least the run can
// do with).
struct MemoryBudget {
  enum class Kind : uint8_t { kAuto, kMinimum, kBytes } kind = Kind::kAuto;
  uint64_t bytes = 0;
  static absl::StatusOr<MemoryBudget> Parse(std::string_view text);
};

struct SamplingOptions {
  float temperature = 0.8f;  // 0: greedy
  int top_k = 40;            // 0: all
  float top_p = 0.95f;       // 1: all
  float min_p = 0.05f;       // 0: all
  float repetition_penalty =
      1;  // 1: none; divides positive and multiplies negative logits of recent tokens
  float frequency_penalty = 0;  // subtracted per occurrence
  float presence_penalty = 0;   // subtracted once
  int penalty_window = 64;      // tokens looked back on; 0: none, -1: all
  uint64_t seed = 0;
};
absl::Status Validate(const SamplingOptions& options);

struct EngineOptions {
  std::string model_path;
  MemoryBudget ram;  // everything the process holds
  int threads = 0;   // 0: one per physical core
  std::string policy = "lru";
  int chunk = 512;           // prompt tokens a step; 0: all
  std::string isa = "auto";  // scalar, avx2, avx512, auto (reference too)
  std::string io = "auto";   // uring, pread, auto
  std::string kv = "f16";    // f16, f32
  int context = 0;           // positions per sequence; 0: the model's own, 512 to 4096
  int sequences_max = 1;     // sequences that may run at once
  int logits_rows_max =
      0;  // rows of a step whose logits are wanted (logits, perplexity); 0: one per sequence
  bool hidden_states = false;  // Evaluate may be asked for hidden states (their memory is planned)
  bool direct_io = true;
};
// InvalidArgument naming option, value and allowed range.
absl::Status Validate(const EngineOptions& options);

}  // namespace stoker
