// The flags of commands that replay traces, and what they give.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/simulation/simulation.h"
#include "runtime/simulation/timing_model.h"
#include "runtime/trace/trace.h"

namespace CLI {
class App;
}

namespace stoker {

struct SimulatedBudget {
  uint64_t bytes = 0;  // in RAM
  uint64_t vram_bytes = 0;
  bool is_recorded = false;

  uint64_t total_bytes() const { return bytes + vram_bytes; }
};

struct TraceFlags {
  std::string path;
  std::string budgets;  // empty: the recorded one, or a few shares
  // Where VRAM can be simulated; empty: as recorded, where budgets are, else as `policy`.
  std::string vram;
  std::string vram_policy;
  std::string place;
  std::string copy_in;
  std::string copy_out;
  std::string device_rate;
  double copy_latency_us = -1;
  double device_latency_us = -1;
  std::string store = "auto";
  std::string profile;
  std::string drive;
  std::string expert_rate;
  std::string expert_bytes;
  double drive_latency_us = -1;
  double layer_us = -1;
  int layer_floor = -2;  // -2: as recorded
  int threads = 0;
  bool cold_per_prompt = false;
  bool keep_repetition = false;
  std::vector<Setting> settings;

  void Declare(CLI::App& app);
  // Those of VRAM too; without, what was recorded with it is replayed as one store of both tiers.
  void DeclareVram(CLI::App& app);
  // InvalidArgument naming flag, value and range.
  absl::Status Check();

  struct Loaded {
    Trace trace;
    SimulationOptions options;
    TimingModel timing;
    std::vector<SimulatedBudget> budgets;  // ascending
    int layer_floor = -1;
    std::string vram_policy;  // empty: as the policy in RAM
    PlaceRule place = PlaceRule::kAuto;

    bool has_vram() const {
      return std::any_of(budgets.begin(), budgets.end(),
                         [](const SimulatedBudget& budget) { return budget.vram_bytes > 0; });
    }
  };
  // Reads the trace and resolves what depends on it.
  absl::StatusOr<Loaded> Load() const;

 private:
  absl::StatusOr<std::vector<uint32_t>> Profile(const Trace& trace) const;
  absl::Status SetExpertBytes(Trace& trace) const;
  absl::StatusOr<std::vector<SimulatedBudget>> Budgets(const Trace& trace) const;
  absl::StatusOr<std::vector<uint64_t>> VramBudgets(const Trace& trace) const;
  absl::Status SetVram(Loaded& loaded) const;

  TimingOptions timing_;
  StoreKind store_ = StoreKind::kAuto;
  bool takes_vram_ = false;
};

// The parts of a list between commas, blanks around them left out; InvalidArgument naming the flag
// when one is empty.
absl::StatusOr<std::vector<std::string>> SplitList(std::string_view flag, std::string_view text);

// What the trace is, what the store is and where times come from, in three lines.
std::string DescribeSimulation(const TraceFlags::Loaded& loaded);

}  // namespace stoker
