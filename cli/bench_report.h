// What stoker bench found, as numbers and as markdown, CSV or JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "cli/ceilings.h"
#include "runtime/engine.h"
#include "runtime/statistics.h"

namespace stoker {

// One repetition.
struct BenchSample {
  RunSummary summary;
  int64_t drive_busy_ns = 0;  // at least one expert read was under way
  uint64_t drive_bytes = 0;
};

struct BenchReport {
  std::string model_path;
  EngineOptions options;
  EngineInfo info = {};
  uint64_t trunk_bytes = 0;
  ExpertCatalog experts = {};
  std::vector<BenchSample> samples = {};
  // Bytes per second, measured without the engine; 0: not measured.
  double memory_ceiling = 0;
  DriveBandwidth drive_ceiling = {};
  LinkRates links = {};  // of a run with a device
};

// Median and median absolute deviation; {0, 0} of nothing.
struct Spread {
  double median = 0;
  double deviation = 0;
};
Spread SpreadOf(std::vector<double> values);

// One rate beside its ceiling.
struct BenchRow {
  std::string name;               // "prompt", "decode", "drive", "copies", "split"
  Spread tokens_per_second = {};  // 0 for a row that is no token rate
  double bytes_per_token = 0;     // bytes that the link carried for one token
  Spread bytes_per_second = {};   // over the link
  double ceiling = 0;             // bytes per second; 0: not measured
  double hit_rate = 0;            // of experts; over all repetitions
  double system_share = 0;        // system CPU time by wall time, over all repetitions
  std::string link;               // what the ceiling is of: "memory", "drive", ...
  double share() const { return ceiling > 0 ? bytes_per_second.median / ceiling : 0; }
};
// prompt and decode: the weights that the steps' arithmetic had to read from memory (the trunk once
// a step, each expert asked for once a step and layer), by the time of the steps. drive: what was
// read from the files, by the time that at least one read was under way; left out when nothing was.
//
// With a device: prompt and decode have a ceiling, its memory, where all experts were in VRAM.
// copies: what was copied to it, by the time of all steps. split: in decode, the experts that the
// processor computed and the copies to the device, by the time in which experts were computed or
// copies or the device waited for; beside what the probe found that both reach together. An
// estimate: that time holds waits that are not for experts, and copies that nobody waits for go on
// outside of it. Both are left out when there were none, the split unless the rule placed experts
// by rates.
std::vector<BenchRow> BenchRows(const BenchReport& report);

using BenchFormat = std::string (*)(const BenchReport& report);
// "markdown", "csv", "json"; InvalidArgument listing them for another name.
absl::StatusOr<BenchFormat> FindBenchFormat(std::string_view name);

}  // namespace stoker
