// Shares replays out over threads.
#include "runtime/simulation/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "base/status.h"
#include "base/units.h"
#include "cache/policy.h"
#include "runtime/options.h"
#include "runtime/simulation/pool_replay.h"
#include "runtime/simulation/slot_replay.h"
#include "runtime/simulation/use_stream.h"

namespace stoker {
namespace {

absl::Status NeedsProfile(std::string_view policy) {
  return absl::InvalidArgumentError(
      fmt::format("the policy {} ranks experts by how often earlier runs used them, and there is "
                  "no such profile\n  try: --profile FILE, of a run, or --profile trace: the uses "
                  "of this trace itself, which no run could know",
                  policy));
}

class Simulator {
 public:
  Simulator(const Trace& trace, const SimulationOptions& options, const TimingModel& timing)
      : trace_(trace),
        options_(options),
        timing_(timing),
        is_pool_(ResolveStore(trace, options.store) == StoreKind::kPool),
        stream_(FlattenTrace(trace, is_pool_ ? UseGrouping::kRow : UseGrouping::kStep)) {}

  absl::StatusOr<ReplayResult> Run(const SimulatedRun& run) const {
    if (!is_pool_ && run.policy != kBelady)
      return ReplaySlots(trace_, stream_, Slots(run), timing_);
    const PoolOptions pool = {.budget_bytes = run.budget_bytes + run.vram_budget_bytes,
                              .cold_per_prompt = options_.cold_per_prompt,
                              .profile = options_.profile};
    ASSIGN_OR_RETURN(const AdmissionChoice admission, ChooseAdmission(run.admission, run.settings));
    if (run.policy == kBelady) {
      return ReplayBelady(stream_, run.admission != "always", pool, timing_);
    }
    ASSIGN_OR_RETURN(const PolicyChoice policy, ChoosePolicy(run.policy, run.settings));
    if (policy.row->needs_profile && options_.profile.empty()) return NeedsProfile(run.policy);
    return ReplayPool(stream_, policy, admission, pool, timing_);
  }

 private:
  SlotOptions Slots(const SimulatedRun& run) const {
    return {.budget_bytes = run.budget_bytes,
            .vram_budget_bytes = run.vram_budget_bytes,
            .is_recorded_budget = run.is_recorded_budget,
            .policy = run.policy,
            .vram_policy = run.vram_policy,
            .place = run.place,
            .admission = run.admission,
            .prefetch = run.prefetch,
            .settings = run.settings,
            .profile = options_.profile,
            .layer_floor = run.layer_floor,
            .cold_per_prompt = options_.cold_per_prompt};
  }

  const Trace& trace_;
  const SimulationOptions& options_;
  const TimingModel& timing_;
  const bool is_pool_;
  const UseStream stream_;
};

// The value below which `share` of the sorted values lie; by the nearest rank.
double Percentile(const std::vector<int64_t>& sorted, double share) {
  const auto rank = static_cast<size_t>(share * static_cast<double>(sorted.size()));
  return static_cast<double>(sorted[std::min(rank, sorted.size() - 1)]);
}

// Of the steps that only decode.
struct RecordedTimes {
  double wall_ns = 0;
  double layers = 0;  // steps x layers with routed experts
};

RecordedTimes TimesOf(const Trace& trace) {
  const UseStream stream = FlattenTrace(trace, UseGrouping::kStep);
  RecordedTimes times;
  for (size_t i = 0; i < stream.steps.size(); ++i) {
    if (stream.steps[i].is_prompt || stream.steps[i].decode_rows == 0) continue;
    times.wall_ns += static_cast<double>(trace.steps[i].wall_ns);
    times.layers += static_cast<double>(trace.steps[i].routings.count);
  }
  times.layers = std::max(1.0, times.layers);
  return times;
}

}  // namespace

std::string_view NameOf(StoreKind store) {
  constexpr std::string_view kNames[] = {"auto", "pool", "slots"};
  return kNames[static_cast<size_t>(store)];
}

StoreKind ResolveStore(const Trace& trace, StoreKind store) {
  if (store != StoreKind::kAuto) return store;
  return trace.header.format == "stoker" ? StoreKind::kSlots : StoreKind::kPool;
}

bool KnowsExpertBytes(const Trace& trace) {
  return std::any_of(trace.header.layers.begin(), trace.header.layers.end(),
                     [](const TraceHeader::Layer& layer) { return layer.expert_bytes > 1; });
}

std::vector<std::string> SimulatedPolicies(bool has_profile) {
  std::vector<std::string> names;
  for (std::string& name : PolicyNames()) {
    const absl::StatusOr<PolicyChoice> policy = ChoosePolicy(name);
    if (has_profile || !policy->row->needs_profile) names.push_back(std::move(name));
  }
  return names;
}

std::vector<uint32_t> ProfileOf(const Trace& trace) {
  const UseStream stream = FlattenTrace(trace, UseGrouping::kStep);
  std::vector<uint32_t> uses(stream.layer_of_key.size(), 0);
  for (const ExpertKey key : stream.uses) ++uses[key];
  return uses;
}

absl::StatusOr<std::vector<ReplayResult>> Simulate(const Trace& trace,
                                                   absl::Span<const SimulatedRun> runs,
                                                   const SimulationOptions& options,
                                                   const TimingModel& timing) {
  const Simulator simulator(trace, options, timing);
  std::vector<ReplayResult> results(runs.size());
  std::vector<absl::Status> statuses(runs.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < runs.size(); i = next++) {
      absl::StatusOr<ReplayResult> result = simulator.Run(runs[i]);
      statuses[i] = result.status();
      if (result.ok()) results[i] = *std::move(result);
    }
  };
  const size_t asked = options.threads > 0 ? static_cast<size_t>(options.threads)
                                           : std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(asked, runs.size()); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < runs.size(); ++i) {
    RETURN_IF_ERROR(WithContext(statuses[i], fmt::format("simulating {} at {}", runs[i].policy,
                                                         FormatBytes(runs[i].budget_bytes))));
  }
  return results;
}

SimulatedRun RecordedRunOf(const TraceHeader& header) {
  return {.policy = header.policy,
          .admission = header.admission,
          .prefetch = header.prefetch,
          .budget_bytes = header.budget_bytes,
          .vram_budget_bytes = header.vram_budget_bytes,
          .vram_policy = header.vram_policy,
          .place = ParsePlaceRule(header.place).value_or(PlaceRule::kAuto),
          .is_recorded_budget = true,
          .layer_floor = header.layer_floor};
}

namespace {

// On the machine that the trace is of, whatever else is asked about.
TimingModel::Value LayerOfReplay(const Trace& trace) {
  TimingModel timing = FitTiming(trace, {});
  const RecordedTimes recorded = TimesOf(trace);
  const SimulatedRun run = RecordedRunOf(trace.header);
  // What is added to a layer is added to the step, but for what others hide of it: few rounds do.
  constexpr int kRounds = 6;
  for (int round = 0; round < kRounds; ++round) {
    const auto results = Simulate(trace, {&run, 1}, {.threads = 1}, timing);
    if (!results.ok()) break;  // a policy that needs what is not in the trace
    const std::vector<int64_t>& step_ns = results->front().step_ns;
    const int64_t predicted_ns = std::accumulate(step_ns.begin(), step_ns.end(), int64_t{0});
    const double missing_ns = recorded.wall_ns - static_cast<double>(predicted_ns);
    timing.layer_ns.value = std::max(0.0, timing.layer_ns.value + missing_ns / recorded.layers);
  }
  return timing.layer_ns;
}

}  // namespace

TimingModel FitTimingByReplay(const Trace& trace, const TimingOptions& options) {
  TimingModel timing = FitTiming(trace, options);
  const bool is_measured = timing.layer_ns.source == TimingModel::Value::Source::kTrace;
  if (is_measured && trace.header.vram_budget_bytes > 0) timing.layer_ns = LayerOfReplay(trace);
  return timing;
}

PredictedTimes PredictTimes(const ReplayResult& result) {
  if (result.step_ns.empty()) return {};
  std::vector<int64_t> sorted = result.step_ns;
  std::sort(sorted.begin(), sorted.end());
  const auto total_ns =
      static_cast<double>(std::accumulate(sorted.begin(), sorted.end(), int64_t{0}));
  return {.tokens_per_s = static_cast<double>(result.decode_rows) * 1e9 / std::max(1.0, total_ns),
          .p50_ms = Percentile(sorted, 0.5) / 1e6,
          .p99_ms = Percentile(sorted, 0.99) / 1e6};
}

}  // namespace stoker
