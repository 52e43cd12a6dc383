// The memory plan: every large part computed, printed and checked before anything is taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/expert_catalog.h"
#include "cache/expert_cache.h"
#include "device/topology.h"
#include "io/gguf.h"
#include "model/model.h"
#include "runtime/options.h"

namespace stoker {

struct MemoryPlan {
  uint64_t budget_bytes = 0;     // what the user allowed, resolved
  uint64_t trunk_bytes = 0;      // resident weights
  uint64_t embedding_bytes = 0;  // cached rows of the embedding table
  uint64_t kv_bytes = 0;
  uint64_t workspace_bytes = 0;
  uint64_t reader_bytes = 0;     // queues of the reader
  uint64_t tokenizer_bytes = 0;  // vocabulary tables, estimated from their size in the file
  uint64_t process_bytes = 0;    // code, libraries, stacks: a stated margin
  CachePlan cache;               // slots and tables of the expert store
  uint64_t total_bytes = 0;      // sum of the above
  uint64_t minimum_bytes = 0;    // least budget for this model, context and chunk
  uint64_t full_bytes = 0;       // budget at which every expert is resident
  int context = 0;
};

// Resident memory may exceed the plan's total by this much (allocator slack, page tables).
inline constexpr uint64_t kBudgetMarginBytes = uint64_t{32} << 20;

// Bytes that reading the vocabulary takes at most, from what it takes in the file: each entry is a
// string in the metadata, and a piece or a pair in the tokenizer's tables.
uint64_t TokenizerBytes(const GgufModel& gguf);

// ResourceExhausted when the budget is below the minimum, with a table of what takes it.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const EngineOptions& options,
                                      const MemoryLimits& limits, int thread_count,
                                      absl::Span<const size_t> alignments,
                                      uint64_t tokenizer_bytes);

// The plan as a table for people.
std::string FormatPlan(const MemoryPlan& plan);

}  // namespace stoker
