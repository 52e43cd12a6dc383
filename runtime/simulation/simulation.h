// A trace against policies and budgets: what each would have hit, read and cost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/parameter.h"
#include "runtime/simulation/replay.h"
#include "runtime/simulation/timing_model.h"
#include "runtime/trace/trace.h"

namespace stoker {

// The policy name of the offline optimum; see ReplayBelady.
inline constexpr std::string_view kBelady = "belady";

// kPool: a pool of bytes, rows one by one: how other programs' traces are read (ReplayPool).
// kSlots: our store, steps as it was asked (ReplaySlots). kAuto: ours for our traces.
enum class StoreKind : uint8_t { kAuto, kPool, kSlots };
std::string_view NameOf(StoreKind store);

// One replay. All of one call run over one trace and one kind of store.
struct SimulatedRun {
  std::string policy;  // as ChoosePolicy, or kBelady
  std::string admission = "always";
  std::string prefetch = "none";  // kSlots
  uint64_t budget_bytes = 0;      // of experts; in RAM
  // kSlots: as SlotOptions.
  uint64_t vram_budget_bytes = 0;
  std::string vram_policy;
  PlaceRule place = PlaceRule::kAuto;
  bool is_recorded_budget = false;  // both are
  int layer_floor = -1;             // kSlots
  std::vector<Setting> settings;
};

struct SimulationOptions {
  StoreKind store = StoreKind::kAuto;
  bool cold_per_prompt = false;
  std::vector<uint32_t> profile;
  int threads = 0;  // 0: as many as there are processors
};

// The store that kAuto stands for.
StoreKind ResolveStore(const Trace& trace, StoreKind store);
// Whether the trace says how large experts are. If not they all count as one byte, and there is
// nothing to predict times from.
bool KnowsExpertBytes(const Trace& trace);

// Every policy that can be simulated, without kBelady; those that rank by a profile only if there
// is one.
std::vector<std::string> SimulatedPolicies(bool has_profile);
// Uses by key over a trace: the profile that a run of it would have left.
std::vector<uint32_t> ProfileOf(const Trace& trace);

// One result a run, in order. Runs are shared out over threads; results do not depend on that.
// Errors: those of ChoosePolicy, ChooseAdmission and ReplaySlots, naming the run.
absl::StatusOr<std::vector<ReplayResult>> Simulate(const Trace& trace,
                                                   absl::Span<const SimulatedRun> runs,
                                                   const SimulationOptions& options,
                                                   const TimingModel& timing);

// As FitTiming. Of a run with VRAM no step says how long a layer takes without its experts, which
// the device computes beside the processor: there it is the time with which a replay of the run
// takes as long as the run did.
TimingModel FitTimingByReplay(const Trace& trace, const TimingOptions& options);

// The run that was recorded, as far as its header says.
SimulatedRun RecordedRunOf(const TraceHeader& header);

// Predicted, of steps that only decode; 0 where there is none.
struct PredictedTimes {
  double tokens_per_s = 0;
  double p50_ms = 0;
  double p99_ms = 0;
};
PredictedTimes PredictTimes(const ReplayResult& result);

}  // namespace stoker
