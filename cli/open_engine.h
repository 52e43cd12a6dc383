// Opens an engine and tells the operator about it, the same way for every command.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "cli/console.h"
#include "runtime/engine.h"

namespace stoker {

// Shows loading, then the memory plan, what was chosen and what could not be had. Errors carry the
// codes of AsOpeningError.
absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const EngineOptions& options, Console& console);

// What has come up since the engine was opened.
void PrintLateNotices(const Engine& engine, Console& console);

}  // namespace stoker
