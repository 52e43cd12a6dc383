// Replays a trace through the engine's own store, on a virtual clock and without its memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/parameter.h"
#include "runtime/simulation/replay.h"
#include "runtime/simulation/timing_model.h"
#include "runtime/simulation/use_stream.h"
#include "runtime/trace/trace.h"

namespace stoker {

// The store of a replay: what is in RAM and in VRAM, as the run that was recorded would have had
// it.
struct SlotOptions {
  uint64_t budget_bytes = 0;       // for slots in RAM, staging among them
  uint64_t vram_budget_bytes = 0;  // for slots in VRAM; 0: no device
  // Both budgets are the recorded ones: slots are those of the recorded plan.
  bool is_recorded_budget = false;
  std::string policy = "lru";
  std::string vram_policy;  // empty: as `policy`
  PlaceRule place = PlaceRule::kAuto;
  std::string admission = "always";
  std::string prefetch = "none";  // as ChoosePrefetch
  std::vector<Setting> settings;
  std::vector<uint32_t> profile;  // the run starts warm by it, unless each prompt starts cold
  int layer_floor = -1;
  bool cold_per_prompt = false;
};

// Where the experts lie: as recorded, else each one block of whole pages.
ExpertCatalog CatalogOf(const TraceHeader& header);
// The slots of a budget. As PlanCache.
absl::StatusOr<CachePlan> PlanSlots(const Trace& trace, const SlotOptions& options);

// `stream` is of the trace, by steps. Given the recorded plan, policy and settings, hits and misses
// are those of the engine, step by step; with VRAM they are as far as copies end between the same
// requests, which is up to the times of `timing`. Experts are placed by the rates of the record,
// or `timing`'s where they were given or the record has none. Errors: those of PlanSlots,
// ChoosePrefetch and ExpertCache::Create; InvalidArgument when a predictor lives by the model's own
// guesses and the trace has none.
absl::StatusOr<ReplayResult> ReplaySlots(const Trace& trace, const UseStream& stream,
                                         const SlotOptions& options, const TimingModel& timing);

}  // namespace stoker
