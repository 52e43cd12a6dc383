// Checks that a store's options and its plan go together.
#include "cache/cache_options.h"

#include <fmt/format.h>

#include <string_view>

#include "base/status.h"

namespace stoker {
namespace {

std::string_view NameOf(PlaceRule rule) {
  constexpr std::string_view kNames[] = {"auto", "gpu", "cpu", "copy"};
  return kNames[static_cast<size_t>(rule)];
}

absl::Status CheckBudget(std::string_view tier, uint64_t planned_bytes, uint64_t budget_bytes) {
  if (planned_bytes <= budget_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("the plan of the expert store takes {} bytes of {}, its tier's budget is {}",
                  planned_bytes, tier, budget_bytes));
}

absl::Status CheckPlace(const CacheOptions& options, const CachePlan& plan) {
  if (options.place != PlaceRule::kGpu && options.place != PlaceRule::kCopy) {
    return absl::OkStatus();
  }
  bool has_slots = options.device != nullptr && plan.vram_classes.size() == plan.classes.size();
  for (const SlotClass& c : plan.vram_classes) has_slots = has_slots && c.slot_count > 0;
  if (has_slots) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "experts cannot be placed by the rule '{}': VRAM has no slot for {}; give more VRAM, or "
      "place "
      "them by 'auto' or 'cpu'",
      NameOf(options.place), plan.vram_bytes > 0 ? "experts of every size" : "an expert"));
}

absl::Status CheckAdmission(const TierOptions& vram) {
  if (vram.admission == Admissions().front().name) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "the admission policy \"{}\" was asked for in VRAM, where promotion is the rule of "
      "admission; leave it at \"{}\" there",
      vram.admission, Admissions().front().name));
}

}  // namespace

absl::Status CheckCacheOptions(const CacheOptions& options, const CachePlan& plan) {
  const std::vector<TierOptions>& tiers = options.tiers;
  const bool is_ram_last = !tiers.empty() && tiers.back().kind == TierKind::kRam;
  const bool is_vram_first = tiers.size() == 2 && tiers[0].kind == TierKind::kVram;
  if (!is_ram_last || tiers.size() > 2 || is_vram_first != (options.device != nullptr) ||
      is_vram_first != (tiers.size() == 2)) {
    return absl::InvalidArgumentError(
        fmt::format("the expert store has the tier RAM or, with a device, the tiers VRAM and RAM; "
                    "{} were asked "
                    "for, {} a device",
                    tiers.size(), options.device != nullptr ? "with" : "without"));
  }
  RETURN_IF_ERROR(
      CheckBudget("RAM", plan.arena_bytes + plan.staging_bytes, tiers.back().budget_bytes));
  if (is_vram_first) {
    RETURN_IF_ERROR(CheckBudget("VRAM", plan.vram_bytes, tiers.front().budget_bytes));
    RETURN_IF_ERROR(CheckAdmission(tiers.front()));
  }
  RETURN_IF_ERROR(CheckPlace(options, plan));
  if (options.layer_floor < -1) {
    return absl::InvalidArgumentError(
        fmt::format("layer_floor is {}; it is a number of experts, or -1", options.layer_floor));
  }
  return absl::OkStatus();
}

}  // namespace stoker
