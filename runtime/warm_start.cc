// Reads the profile, hands it to the store, and has the store filled.
#include "runtime/warm_start.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "runtime/model_identity.h"

namespace stoker {

uint64_t UsagePlanBytes(const ExpertCatalog& catalog) {
  // Counted and submitted (8 each), before, faded, encoded, handed to the store and in order of
  // heat twice (4 each).
  constexpr uint64_t kExpertBytes = 2 * 8 + 6 * 4;
  return static_cast<uint64_t>(catalog.expert_count()) * kExpertBytes +
         ExpertCache::HintTableBytes(catalog);
}

absl::StatusOr<OpenedUsage> OpenUsage(const GgufModel& gguf, const ExpertCatalog& catalog,
                                      const std::string& option, const Clock& clock) {
  if (option == "none") return OpenedUsage();
  if (catalog.expert_count() == 0) {
    return OpenedUsage{.notice = "no usage profile is kept: the model has no routed experts"};
  }
  const uint64_t identity = IdentifyModel(gguf);
  absl::StatusOr<std::string> path = ProfilePath(option, identity);
  if (!path.ok() && option == "auto") {
    return OpenedUsage{.notice = std::string(MessageOf(path.status()))};
  }
  if (!path.ok()) return path.status();
  UsageProfile before = ReadProfile(*path, identity, catalog.expert_count());
  OpenedUsage opened = {.notice = before.notice};
  opened.recorder = std::make_unique<UsageRecorder>(
      catalog,
      UsageRecorder::Options{
          .path = *std::move(path), .identity = identity, .before = std::move(before)},
      clock);
  return opened;
}

void PrepareWarmStart(const UsageRecorder& recorder, CacheOptions& options) {
  options.profile = recorder.before().uses;
  if (recorder.before().uses.empty()) return;
  options.hint_loads_max = std::max(options.hint_loads_max, kWarmLoadsMax);
}

void BeginWarmStart(const UsageRecorder& recorder, ExpertCache& cache) {
  if (recorder.before().uses.empty()) return;
  cache.Warm(HotnessOrder(recorder.before().uses));
}

}  // namespace stoker
