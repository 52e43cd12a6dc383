// The tables of a memory plan, whole and in parts: for the operator, and in errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/budget.h"

namespace stoker {

// "  name                 12.3 MiB   remark\n"
void AppendRow(std::string& table, std::string_view name, uint64_t bytes,
               std::string_view remark = "");
// A row for each part that does not depend on the budget.
void AppendFixedRows(std::string& table, const MemoryPlan& plan);
void AppendFixedRows(std::string& table, const DevicePlan& plan, int context);

}  // namespace stoker
