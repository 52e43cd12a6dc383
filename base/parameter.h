// A number that a part can be tuned by: its name, range and reason, so that flags, configuration
// files and searches can offer it without knowing the part.
#pragma once

#include <string>
#include <string_view>

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

}  // namespace stoker
