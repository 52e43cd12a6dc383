// Reads the profile, hands it to the store, and has the store filled.
#include "runtime/warm_start.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status.h"
#include "runtime/model_identity.h"

namespace stoker {
namespace {

// Whether VRAM, or with `kRam` both tiers together, have a slot for every expert of some size
// class.
bool HoldsAClass(const CachePlan& plan, TierKind tier) {
  for (size_t c = 0; c < plan.classes.size(); ++c) {
    int64_t slot_count = tier == TierKind::kRam ? plan.classes[c].slot_count : 0;
    if (!plan.vram_classes.empty()) {
      slot_count += plan.vram_classes[c].slot_count - plan.vram_classes[c].transit_count;
    }
    if (slot_count >= plan.classes[c].expert_count) return true;
  }
  return false;
}

}  // namespace

// Without a profile VRAM alone is filled.
WarmStart WarmStartOf(const UsageRecorder* recorder) {
  if (recorder == nullptr) return {};
  return {.uses = recorder->before().uses, .filled = TierKind::kRam};
}

uint64_t UsagePlanBytes(const ExpertCatalog& catalog) {
  // Counted and submitted (8 each), before, faded, encoded, handed to the store and in the order of
  // reading three times (4 each).
  constexpr uint64_t kExpertBytes = 2 * 8 + 7 * 4;
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

void PrepareWarmStart(const WarmStart& start, const CachePlan& plan, CacheOptions& options) {
  options.profile.assign(start.uses.begin(), start.uses.end());
  if (start.uses.empty() && !HoldsAClass(plan, start.filled)) return;
  options.hint_loads_max = std::max(options.hint_loads_max, kWarmLoadsMax);
}

void BeginWarmStart(const WarmStart& start, ExpertCache& cache) {
  std::vector<ExpertKey> order = HotnessOrder(start.uses);
  // Then those that need nobody to go.
  for (const ExpertKey key : cache.ExpertsThatFit(start.filled)) {
    if (start.uses.empty() || start.uses[static_cast<size_t>(key)] == 0) order.push_back(key);
  }
  if (!order.empty()) cache.Warm(order);
}

}  // namespace stoker
