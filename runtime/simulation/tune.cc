// A search from the coarse to the fine, on half of a trace.
#include "runtime/simulation/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "cache/policy.h"
#include "runtime/options.h"

namespace stoker {
namespace {

// Of each round, what the next one goes on from.
constexpr size_t kPoliciesKept = 3;
constexpr size_t kRunsRefined = 2;
constexpr int kPasses = 2;  // over the parameters
constexpr int kGridValues = 5;

bool SameSettings(const SimulatedRun& a, const SimulatedRun& b) {
  if (a.policy != b.policy || a.admission != b.admission || a.layer_floor != b.layer_floor ||
      a.settings.size() != b.settings.size()) {
    return false;
  }
  for (size_t i = 0; i < a.settings.size(); ++i) {
    if (a.settings[i].key != b.settings[i].key || a.settings[i].value != b.settings[i].value) {
      return false;
    }
  }
  return true;
}

SimulatedRun WithSetting(SimulatedRun run, const std::string& key, double value) {
  const auto found = std::find_if(run.settings.begin(), run.settings.end(),
                                  [&](const Setting& setting) { return setting.key == key; });
  if (found != run.settings.end()) {
    found->value = value;
  } else {
    run.settings.push_back({.key = key, .value = value});
    std::sort(run.settings.begin(), run.settings.end(),
              [](const Setting& a, const Setting& b) { return a.key < b.key; });
  }
  return run;
}

// Values over the parameter's range: by ratio where that spans more than two decades.
std::vector<double> GridOf(const ParameterRow& row) {
  std::vector<double> values;
  const bool is_wide = row.minimum > 0 && row.maximum / row.minimum > 100;
  for (int i = 0; i < kGridValues; ++i) {
    const double part = static_cast<double>(i) / (kGridValues - 1);
    double value = is_wide ? row.minimum * std::pow(row.maximum / row.minimum, part)
                           : row.minimum + part * (row.maximum - row.minimum);
    if (row.is_whole) value = std::round(value);
    values.push_back(std::clamp(value, row.minimum, row.maximum));
  }
  // Around the default, which is where others found it good.
  for (const double factor : {0.5, 2.0}) {
    const double value = row.is_whole ? std::round(row.value * factor) : row.value * factor;
    if (value >= row.minimum && value <= row.maximum) values.push_back(value);
  }
  return values;
}

class Search {
 public:
  Search(const Trace& trace, const TuneOptions& options, const TimingModel& timing)
      : trace_(trace), options_(options), timing_(timing) {}

  absl::StatusOr<Tuning> Run() {
    RETURN_IF_ERROR(Halve());
    RETURN_IF_ERROR(TryPolicies());
    RETURN_IF_ERROR(TryAdmissionsAndFloors());
    const std::vector<TunedRun> best = Best(kRunsRefined);
    for (const TunedRun& run : best) RETURN_IF_ERROR(Refine(run));
    Tuning tuning = {.defaults = defaults_, .belady = belady_, .held_out_step = held_out_step_};
    tuning.tried = Best(tried_.size());
    const TunedRun& first = tuning.tried.front();
    const bool is_better = first.searched_rate > defaults_.searched_rate &&
                           first.held_out_rate > defaults_.held_out_rate;
    tuning.recommended = is_better ? first : defaults_;
    return tuning;
  }

 private:
  // Half of the steps that only decode come before held_out_step_.
  absl::Status Halve() {
    int64_t count = 0;
    for (const TraceStep& step : trace_.steps) {
      bool only_decodes = step.rows.count > 0;
      for (int64_t i = 0; i < step.rows.count; ++i) {
        only_decodes = only_decodes && !trace_.rows[step.rows.first + i].is_prompt;
      }
      decodes_.push_back(only_decodes);
      count += only_decodes ? 1 : 0;
    }
    if (count < kTunedStepsMin) {
      return absl::InvalidArgumentError(
          fmt::format("the trace has {} steps that decode, and tuning needs {}: half of them to "
                      "search, half to "
                      "check what was found\n  try: record a longer run",
                      count, kTunedStepsMin));
    }
    for (int64_t seen = 0; seen < count / 2; ++held_out_step_) {
      seen += decodes_[held_out_step_] ? 1 : 0;
    }
    return absl::OkStatus();
  }

  SimulatedRun RunOf(std::string policy) const {
    return {.policy = std::move(policy),
            .budget_bytes = options_.budget_bytes,
            .is_recorded_budget = options_.is_recorded_budget};
  }

  double RateOf(const ReplayResult& result, int64_t first, int64_t end) const {
    uint64_t hits = 0;
    uint64_t accesses = 0;
    for (int64_t step = first; step < end; ++step) {
      if (!decodes_[step]) continue;
      hits += result.steps[step].hits;
      accesses += result.steps[step].hits + result.steps[step].misses;
    }
    return accesses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(accesses);
  }

  // Runs what was not run before, as far as the bound allows.
  absl::Status Try(std::vector<SimulatedRun> runs) {
    std::vector<SimulatedRun> fresh;
    for (SimulatedRun& run : runs) {
      const auto is_same = [&run](const SimulatedRun& other) { return SameSettings(run, other); };
      const bool is_tried = std::any_of(fresh.begin(), fresh.end(), is_same) ||
                            std::any_of(tried_.begin(), tried_.end(),
                                        [&](const TunedRun& other) { return is_same(other.run); });
      const auto used = static_cast<int>(tried_.size() + fresh.size());
      if (!is_tried && used < options_.replays_max) fresh.push_back(std::move(run));
    }
    ASSIGN_OR_RETURN(const std::vector<ReplayResult> results,
                     Simulate(trace_, fresh, options_.simulation, timing_));
    for (size_t i = 0; i < fresh.size(); ++i) tried_.push_back(Score(fresh[i], results[i]));
    return absl::OkStatus();
  }

  TunedRun Score(const SimulatedRun& run, const ReplayResult& result) const {
    const auto step_count = static_cast<int64_t>(trace_.steps.size());
    return {.run = run,
            .searched_rate = RateOf(result, 0, held_out_step_),
            .held_out_rate = RateOf(result, held_out_step_, step_count),
            .times = PredictTimes(result)};
  }

  // In the searched half; of equals the one tried first.
  std::vector<TunedRun> Best(size_t count) const {
    std::vector<TunedRun> best = tried_;
    std::stable_sort(best.begin(), best.end(), [](const TunedRun& a, const TunedRun& b) {
      return a.searched_rate > b.searched_rate;
    });
    best.resize(std::min(count, best.size()));
    return best;
  }

  absl::Status TryPolicies() {
    const std::vector<SimulatedRun> yardsticks = {RunOf(std::string(kBelady))};
    ASSIGN_OR_RETURN(const std::vector<ReplayResult> results,
                     Simulate(trace_, yardsticks, options_.simulation, timing_));
    belady_ = Score(yardsticks[0], results[0]);
    std::vector<SimulatedRun> runs = {RunOf(EngineOptions().policy)};
    for (const std::string& policy : SimulatedPolicies(!options_.simulation.profile.empty())) {
      runs.push_back(RunOf(policy));
    }
    RETURN_IF_ERROR(Try(std::move(runs)));
    defaults_ = tried_.front();
    return absl::OkStatus();
  }

  absl::Status TryAdmissionsAndFloors() {
    std::vector<SimulatedRun> runs;
    for (const TunedRun& kept : Best(kPoliciesKept)) {
      for (const AdmissionRow& admission : Admissions()) {
        runs.push_back(kept.run);
        runs.back().admission = admission.name;
      }
      if (ResolveStore(trace_, options_.simulation.store) != StoreKind::kSlots) continue;
      for (const int floor : {0, 1, 2, 4, 8}) {
        runs.push_back(kept.run);
        runs.back().layer_floor = floor;
      }
    }
    return Try(std::move(runs));
  }

  absl::Status Refine(TunedRun run) {
    ASSIGN_OR_RETURN(const PolicyChoice policy, ChoosePolicy(run.run.policy));
    ASSIGN_OR_RETURN(const AdmissionChoice admission, ChooseAdmission(run.run.admission));
    for (int pass = 0; pass < kPasses; ++pass) {
      for (const ParameterRow& row : policy.row->parameters) {
        RETURN_IF_ERROR(RefineOne(policy.row->name, row, run));
      }
      for (const ParameterRow& row : admission.row->parameters) {
        RETURN_IF_ERROR(RefineOne(admission.row->name, row, run));
      }
    }
    return absl::OkStatus();
  }

  // Moves `run` to the best value of one parameter.
  absl::Status RefineOne(std::string_view name, const ParameterRow& row, TunedRun& run) {
    const std::string key = fmt::format("{}.{}", name, row.name);
    std::vector<SimulatedRun> runs;
    for (const double value : GridOf(row)) runs.push_back(WithSetting(run.run, key, value));
    const size_t before = tried_.size();
    RETURN_IF_ERROR(Try(std::move(runs)));
    for (size_t i = before; i < tried_.size(); ++i) {
      if (tried_[i].searched_rate > run.searched_rate) run = tried_[i];
    }
    return absl::OkStatus();
  }

  const Trace& trace_;
  const TuneOptions& options_;
  const TimingModel& timing_;
  std::vector<bool> decodes_;  // by step: whether it only decodes
  int64_t held_out_step_ = 0;
  TunedRun defaults_;
  TunedRun belady_;
  std::vector<TunedRun> tried_;
};

}  // namespace

absl::StatusOr<Tuning> Tune(const Trace& trace, const TuneOptions& options,
                            const TimingModel& timing) {
  return Search(trace, options, timing).Run();
}

}  // namespace stoker
