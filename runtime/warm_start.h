// Starts a run with what earlier ones have used, and with all that memory has room for: fills the
// store in the background while the engine already answers.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/expert_cache.h"
#include "io/gguf.h"
#include "runtime/usage_recorder.h"

namespace stoker {

// Experts read at once by a warm start: as many as keep a drive busy. How much of them is in the
// drive when a step wants it is bounded by the reader's hint_depth.
inline constexpr int kWarmLoadsMax = 4;

// What all of it takes: counts, their copies on the way to the file, and the store's tables.
uint64_t UsagePlanBytes(const ExpertCatalog& catalog);

struct OpenedUsage {
  std::unique_ptr<UsageRecorder> recorder;  // null: no profile is kept
  std::string notice;                       // what came otherwise; empty: nothing
};
// Reads the profile that EngineOptions::profile names, and begins to count. Starts a thread.
// FailedPrecondition when a file was named in a folder that cannot be written to; "auto" without a
// place is a notice.
absl::StatusOr<OpenedUsage> OpenUsage(const GgufModel& gguf, const ExpertCatalog& catalog,
                                      const std::string& option, const Clock& clock);

// What a run starts with.
struct WarmStart {
  absl::Span<const uint32_t> uses;    // by expert, of earlier runs; empty: none was before
  TierKind filled = TierKind::kVram;  // the tiers down to this one are filled
};
// A null recorder keeps no profile.
WarmStart WarmStartOf(const UsageRecorder* recorder);

// What the store has to be told before it is made: uses by expert, and that it will be asked to
// read ahead.
void PrepareWarmStart(const WarmStart& start, const CachePlan& plan, CacheOptions& options);
// Has the store read ahead, while it has room and the drive is idle, whatever the running steps
// leave it:
//
// - with a profile, the experts used most by earlier runs; and, if memory has a slot for every
//   expert, all others, in the order of the layers;
// - without one, the experts of layers that VRAM has a slot for each of. Such a layer needs the
//   host no more once all of its experts are there, which use alone may never bring.
void BeginWarmStart(const WarmStart& start, ExpertCache& cache);

}  // namespace stoker
