// Everything a run can be told, nested by part, validated once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/parameter.h"
#include "cache/placement.h"
#include "device/device.h"

namespace stoker {

// A memory budget: bytes, "auto" (what is available less a margin), or "min" (the least the run can
// do with).
struct MemoryBudget {
  enum class Kind : uint8_t { kAuto, kMinimum, kBytes } kind = Kind::kAuto;
  uint64_t bytes = 0;
  // InvalidArgument naming `option`, the text and what is allowed.
  static absl::StatusOr<MemoryBudget> Parse(std::string_view option, std::string_view text);
};

// "auto", "gpu", "cpu", "copy". InvalidArgument listing them for another text.
absl::StatusOr<PlaceRule> ParsePlaceRule(std::string_view text);
std::string_view NameOf(PlaceRule rule);

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

// A modelled GPU's properties, where they are not to be the defaults of ModelledRates and
// DeviceOptions. 0: the default.
struct ModelledGpuOptions {
  uint64_t memory_bytes = 0;
  double memory_rate = 0;              // bytes a second, of its memory
  double link_rate = 0;                // bytes a second, of copies; out too unless that has its own
  double link_out_rate = 0;            // of copies out
  std::optional<int> link_latency_us;  // of each copy; out too unless that has its own
  std::optional<int> link_out_latency_us;

  bool is_given() const {
    return memory_bytes != 0 || memory_rate != 0 || link_rate != 0 || link_out_rate != 0 ||
           link_latency_us.has_value() || link_out_latency_us.has_value();
  }
};

// A slower drive than there is, for experts. Rate 0: the drive as it is.
struct ModelledDriveOptions {
  double rate = 0;     // bytes a second
  int latency_us = 0;  // of each read
};

struct EngineOptions {
  std::string model_path;
  MemoryBudget ram;                  // everything the process holds
  int threads = 0;                   // 0: one per physical core
  std::string policy = "lru";        // of experts in RAM; as ChoosePolicy
  std::string vram_policy;           // of experts in VRAM; empty: as `policy`
  std::string admission = "always";  // to RAM; as ChooseAdmission
  int layer_floor = -1;              // as CacheOptions
  std::string prefetch = "none";     // as ChoosePrefetch
  std::vector<Setting> settings;     // parameters of policies, admissions and predictors
  // Uses of experts by earlier runs, for a warm start: a file, "auto" (one a model, in the cache
  // folder of this user), or "none".
  std::string profile = "none";
  std::string trace_path;  // where every routing decision and step is recorded; empty: nowhere
  // Of the trace: without the routers' weights, less than half the bytes.
  bool trace_ids_only = false;
  std::string draft = "none";  // as ChooseDrafter
  int draft_length = -1;       // drafts checked a step and sequence; -1: chosen as the run goes
  int chunk = 512;             // prompt tokens a step; 0: all
  std::string isa = "auto";    // scalar, avx2, avx512, auto (reference too)
  std::string io = "auto";     // uring, pread, auto
  std::string kv = "f16";      // f16, f32
  int context = 0;             // positions per sequence; 0: the model's own, 512 to 4096
  int sequences_max = 1;       // sequences that may run at once
  int logits_rows_max =
      0;  // rows of a step whose logits are wanted (logits, perplexity); 0: one per sequence
  bool hidden_states = false;  // Evaluate may be asked for hidden states (their memory is planned)
  bool direct_io = true;
  ModelledDriveOptions modelled_drive;
  // What holds and computes everything but routed experts, and shares these with the processor:
  // cpu (nothing but the processor), cuda, modelled, or auto: cuda where there is one, else cpu.
  std::string device = "auto";
  // Of a device only; unset: auto.
  std::optional<MemoryBudget> vram;  // all that is taken of its memory
  std::optional<PlaceRule> place;    // who computes the experts that are in RAM
  int gpu = -1;                      // which GPU; -1: the one with the most free memory
  ModelledGpuOptions modelled;

  const std::string& vram_policy_or_policy() const {
    return vram_policy.empty() ? policy : vram_policy;
  }
};
// InvalidArgument naming option, value and allowed range.
absl::Status Validate(const EngineOptions& options);

}  // namespace stoker
