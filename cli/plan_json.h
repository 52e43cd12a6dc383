// A memory plan for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "runtime/budget.h"

namespace stoker {

// Bytes by part, as FormatPlan shows them; "device" is null without one.
nlohmann::ordered_json PlanJson(const MemoryPlan& plan);

}  // namespace stoker
