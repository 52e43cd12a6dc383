// Opens an engine and tells the operator about it, the same way for every command.
#include "cli/open_engine.h"

#include <fmt/format.h>

#include "base/units.h"
#include "cli/exit_status.h"
#include "cli/summary.h"

namespace stoker {

absl::StatusOr<std::unique_ptr<Engine>> OpenEngine(const EngineOptions& options, Console& console) {
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Open(options, [&console](uint64_t done_bytes, uint64_t total_bytes) {
        console.Progress("loading", done_bytes, total_bytes);
      });
  console.EndProgress();
  if (!engine.ok()) return AsOpeningError(engine.status());
  const EngineInfo& info = (*engine)->info();
  console.Note(FormatPlan(info.plan));
  console.Note(fmt::format("computing with {} on {} thread{}, reading with {}, loaded in {}",
                           info.isa, info.threads, info.threads == 1 ? "" : "s", info.io,
                           FormatDuration(info.load_ns)));
  if (!info.device.empty()) console.Note(FormatDevice(info));
  for (const std::string& notice : info.notices) console.Note("note: " + notice);
  return engine;
}

void PrintLateNotices(const Engine& engine, Console& console) {
  for (const std::string& notice : engine.info().late_notices) console.Note("note: " + notice);
}

}  // namespace stoker
