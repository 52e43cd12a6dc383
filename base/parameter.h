// A number that a part can be tuned by: its name, range and reason, so that flags, configuration
// files and searches can offer it without knowing the part.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace stoker {

struct ParameterRow {
  std::string_view name;  // lower_snake, unit last
  double value = 0;       // unless set
  double minimum = 0;
  double maximum = 0;
  bool is_whole = false;
  std::string_view reason;  // what a larger value does, and why the default is what it is
};

// A parameter set by the user: "lfu.uses_per_key" is that parameter of the row "lfu" of whichever
// registry has it; names of rows are distinct over all registries.
struct Setting {
  std::string key;
  double value = 0;
};

// One value a parameter of the row called `row`: the last that `settings` has for it, else its own.
// Settings of other rows are passed over. InvalidArgument: a parameter that the row does not have
// (listing those it has), a value out of range or not whole (with the range and the reason).
absl::StatusOr<std::vector<double>> ChooseParameters(std::string_view row,
                                                     absl::Span<const ParameterRow> parameters,
                                                     absl::Span<const Setting> settings);

}  // namespace stoker
