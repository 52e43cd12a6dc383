// The memory plan: every large part computed, printed and checked before anything is taken.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "cache/expert_cache.h"
#include "device/device.h"
#include "device/topology.h"
#include "io/gguf.h"
#include "model/model.h"
#include "runtime/draft_source.h"
#include "runtime/options.h"

namespace stoker {

// What a run takes of a device's memory. Slots for experts are MemoryPlan::cache.vram_classes.
struct DevicePlan {
  std::string kind;              // Device::kind; empty: the run uses none, and all below is 0
  uint64_t available_bytes = 0;  // of the device when it was opened
  uint64_t budget_bytes = 0;     // what the user allowed, resolved
  uint64_t trunk_bytes = 0;      // resident weights
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;
  uint64_t draft_bytes = 0;    // the draft model, with its cache and workspace
  uint64_t slot_bytes = 0;     // of experts
  uint64_t driver_bytes = 0;   // left to the driver: a stated margin
  uint64_t total_bytes = 0;    // sum of the above; all but the driver's is taken, to the byte
  uint64_t minimum_bytes = 0;  // least budget: no expert is resident
  uint64_t full_bytes = 0;     // budget at which every expert is

  bool is_used() const { return !kind.empty(); }
};

struct MemoryPlan {
  uint64_t budget_bytes = 0;     // what the user allowed, resolved
  uint64_t trunk_bytes = 0;      // resident weights; 0 when a device holds them
  uint64_t embedding_bytes = 0;  // cached rows of the embedding table
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;
  uint64_t reader_bytes = 0;     // queues of the reader
  uint64_t prefetch_bytes = 0;   // what guessing experts takes
  uint64_t draft_bytes = 0;      // what drafting takes, a draft model included
  uint64_t tokenizer_bytes = 0;  // vocabulary tables, estimated from their size in the file
  uint64_t trace_bytes = 0;      // what recording the run takes
  uint64_t profile_bytes = 0;    // what counting uses, and a warm start, take
  uint64_t process_bytes = 0;    // code, libraries, stacks, driver: a stated margin
  CachePlan cache;               // slots and tables of the expert store, in every tier
  // Weights on their way to a device, before the store takes its slots.
  uint64_t loading_bytes = 0;
  // Sum of the above, of slots, staging and tables or what loading takes the larger.
  uint64_t total_bytes = 0;
  uint64_t minimum_bytes = 0;  // least budget for this model, context and chunk
  uint64_t full_bytes = 0;     // budget at which every expert is resident
  int context = 0;
  DevicePlan device;
};

// Resident memory may exceed the plan's total by this much (allocator slack, page tables).
inline constexpr uint64_t kBudgetMarginBytes = uint64_t{32} << 20;

// What a plan has to do with.
struct PlannedMachine {
  MemoryLimits limits;
  int thread_count = 1;
  absl::Span<const size_t> alignments;  // of reads, by file of the model
  std::string_view device_kind;         // empty: the run uses no device
  DeviceInfo device;
};
// That of a run on `device`, which may be null.
PlannedMachine ThisMachine(int thread_count, absl::Span<const size_t> alignments,
                           const Device* device);

// Bytes that reading the vocabulary takes at most, from what it takes in the file: each entry is a
// string in the metadata, and a piece or a pair in the tokenizer's tables.
uint64_t TokenizerBytes(const GgufModel& gguf);

// `draft` is that of the options. ResourceExhausted when a budget is below the minimum, or that of
// VRAM above what the device has left, with a table of what takes it. FailedPrecondition when the
// device is to compute all experts and has no room for any.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const EngineOptions& options,
                                      const PlannedMachine& machine, uint64_t tokenizer_bytes,
                                      const DraftSource& draft);

// The plan as a table for people.
std::string FormatPlan(const MemoryPlan& plan);

}  // namespace stoker
