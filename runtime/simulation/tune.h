// Searches policies, admissions and their parameters for what hits most on a trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/simulation/simulation.h"
#include "runtime/trace/trace.h"

namespace stoker {

struct TuneOptions {
  SimulationOptions simulation;
  uint64_t budget_bytes = 0;
  bool is_recorded_budget = false;
  int replays_max = 80;
};

// A run and its hit rates over decoding: in the half of the trace that the search looks at, and in
// the half that it does not.
struct TunedRun {
  SimulatedRun run;
  double searched_rate = 0;
  double held_out_rate = 0;
  PredictedTimes times;  // over both
};

struct Tuning {
  TunedRun defaults;            // what a run without flags does
  TunedRun belady;              // the offline optimum
  std::vector<TunedRun> tried;  // best in the searched half first
  // The first of `tried` if it is better than the defaults in the held-out half too, else the
  // defaults: what was learned by heart does not count.
  TunedRun recommended;
  int64_t held_out_step = 0;  // the half that is held out begins here
};

// In turn: every policy; every admission, and in our store floors, with the best of them; then one
// parameter after the other of the best of those over its range. Deterministic; replays_max replays
// at most. The trace's tokens are halved in time: the second half runs on from the first.
// InvalidArgument: fewer than kTunedStepsMin steps that only decode.
inline constexpr int kTunedStepsMin = 16;
absl::StatusOr<Tuning> Tune(const Trace& trace, const TuneOptions& options,
                            const TimingModel& timing);

}  // namespace stoker
