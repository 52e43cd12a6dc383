// Every link of the machine measured alone and beside the others: the ceilings of a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cache/placement.h"
#include "runtime/options.h"

namespace stoker {

struct LinkRow {
  std::string link;    // "experts by the processor, 1 row", "copies to the device", ...
  std::string beside;  // the links busy at the same time, or empty
  double rate = 0;     // bytes per second; 0: this machine has no such link, said by `why_not`
  std::string why_not;
};

struct LinkSurvey {
  std::vector<LinkRow> rows;  // alone first
  std::string isa;
  int threads = 0;
  std::string io;
  std::string device;   // its name and description, or "none"
  std::string experts;  // of which shape they were
  std::string notice;   // why the drive's rate may not be the drive's, or empty
};

// Measures with the options' device, threads, instruction set and reader, and experts of the shape
// of the model; without a model of a usual shape, and no drive. Takes a few seconds.
absl::StatusOr<LinkSurvey> SurveyLinks(const EngineOptions& options);

// The rates that experts are placed by (ProbeLinks), with the options of SurveyLinks and no engine:
// the ceilings of a run with a device.
absl::StatusOr<LinkRates> RatesOfLinks(const EngineOptions& options);

}  // namespace stoker
