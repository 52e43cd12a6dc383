// What the parts of a run can be chosen among by name, and the numbers that they are tuned by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/parameter.h"

namespace stoker {

// Values of EngineOptions::policy and vram_policy.
std::vector<std::string> PolicyChoices();

// Values of EngineOptions::admission.
std::vector<std::string> AdmissionChoices();

// Values of EngineOptions::prefetch.
std::vector<std::string> PredictorChoices();

// Values of EngineOptions::draft beside the path of a file.
std::vector<std::string> DrafterChoices();

// A row of a registry, as far as it can be tuned.
struct TunableRow {
  std::string_view name;
  std::string_view description;
  absl::Span<const ParameterRow> parameters;
};
// Every row of every registry that has parameters; the key of a Setting is ROW.PARAMETER.
std::vector<TunableRow> TunableRows();

}  // namespace stoker
