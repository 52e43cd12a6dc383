// Flags for the numbers that policies, admissions and predictors are tuned by, made from their
// registries.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "base/parameter.h"
#include "runtime/choices.h"

namespace CLI {
class App;
}

namespace stoker {

// Declares --ROW.PARAMETER for each parameter, with its range and reason in the help. A flag given
// sets its entry of `settings`, which must outlive `app`; a value out of range is refused with the
// range and the reason. Rows must live as long as the program.
void DeclareParameterFlags(CLI::App& app, absl::Span<const TunableRow> rows,
                           std::vector<Setting>& settings);

}  // namespace stoker
