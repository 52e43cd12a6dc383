// Splits a byte budget over the size classes of experts, before any memory is taken.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "cache/expert_cache.h"
#include "cache/expert_layout.h"

namespace stoker {
namespace {

// Tables beside the arena, rounded up generously: a slot's state, its load and its four reads; a
// key's place, hash and history, and what policies hold of it (one policy a class and tier, 28
// bytes, or 256 by the one that plays all the others; and one admission a class, 16); per layer
// what a policy of its own holds beside that; and a fixed part for miss records and small vectors.
constexpr uint64_t kTableBytesPerSlot = 512;
constexpr uint64_t kTableBytesPerKey = 32;
constexpr uint64_t kPolicyBytesPerKey = 256;
constexpr uint64_t kAdmissionBytesPerKey = 16;
constexpr uint64_t kPolicyBytesPerLayer = 12288;
constexpr uint64_t kTableBytesFixed = 64 << 10;
// With VRAM: a key's place there and its last uses, where its parts are once they stay there, and
// its turn in filling VRAM, three times while that is made; copies under way and unpins that wait.
constexpr uint64_t kVramBytesPerKey = 24 + 8 * kExpertPartsMax + 3 * sizeof(ExpertKey);
constexpr uint64_t kVramBytesFixed = 256 << 10;

uint64_t TableBytes(const ExpertLayout& layout, int64_t slot_count, bool has_vram) {
  const uint64_t tiers = has_vram ? 2 : 1;
  const uint64_t per_key =
      kTableBytesPerKey + (has_vram ? kVramBytesPerKey : 0) +
      (kPolicyBytesPerKey * tiers + kAdmissionBytesPerKey) * layout.classes().size();
  return kTableBytesFixed + (has_vram ? kVramBytesFixed : 0) +
         kTableBytesPerSlot * static_cast<uint64_t>(slot_count) +
         per_key * static_cast<uint64_t>(layout.key_count()) +
         kPolicyBytesPerLayer * layout.layers().size() * tiers;
}

uint64_t BytesOf(const std::vector<SlotClass>& classes) {
  uint64_t sum = 0;
  for (const SlotClass& c : classes) sum += c.slot_bytes * static_cast<uint64_t>(c.slot_count);
  return sum;
}

// value * numerator / denominator without overflow.
int64_t Share(int64_t value, uint64_t numerator, uint64_t denominator) {
  return static_cast<int64_t>(static_cast<unsigned __int128>(value) * numerator / denominator);
}

int64_t CountOf(const std::vector<SlotClass>& classes) {
  int64_t sum = 0;
  for (const SlotClass& c : classes) sum += c.slot_count;
  return sum;
}

// Slots for `wanted` experts of each class, as far as a budget goes.
struct Split {
  std::vector<int64_t> wanted;   // by class
  std::vector<int64_t> minimum;  // by class, at most what is wanted
};

uint64_t BytesFor(const std::vector<int64_t>& counts, const std::vector<SlotClass>& classes) {
  uint64_t sum = 0;
  for (size_t c = 0; c < classes.size(); ++c) {
    sum += classes[c].slot_bytes * static_cast<uint64_t>(counts[c]);
  }
  return sum;
}

// Gives each class the same fraction of what it wants, but no class less than its minimum: classes
// whose fraction would be less keep the minimum, and the others share what is left, until it holds.
void SplitEvenly(uint64_t budget_bytes, const Split& split, std::vector<SlotClass>& classes) {
  std::vector<bool> is_at_minimum(classes.size(), false);
  for (bool is_settled = false; !is_settled;) {
    uint64_t shared_bytes = budget_bytes;
    uint64_t wanted_bytes = 0;  // by the classes that share
    for (size_t c = 0; c < classes.size(); ++c) {
      if (is_at_minimum[c]) {
        shared_bytes -= classes[c].slot_bytes * static_cast<uint64_t>(split.minimum[c]);
      } else {
        wanted_bytes += classes[c].slot_bytes * static_cast<uint64_t>(split.wanted[c]);
      }
    }
    is_settled = true;
    for (size_t c = 0; c < classes.size(); ++c) {
      if (!is_at_minimum[c]) {
        classes[c].slot_count =
            wanted_bytes > 0 ? Share(split.wanted[c], shared_bytes, wanted_bytes) : 0;
      }
      if (is_at_minimum[c] || classes[c].slot_count >= split.minimum[c]) continue;
      classes[c].slot_count = split.minimum[c];
      is_at_minimum[c] = true;
      is_settled = false;
    }
  }
}

// Spends what rounding left on single slots, the class with the smallest fraction of what it wants
// first.
void SpendLeftover(uint64_t left_bytes, const Split& split, std::vector<SlotClass>& classes) {
  while (true) {
    size_t poorest = classes.size();
    for (size_t c = 0; c < classes.size(); ++c) {
      if (classes[c].slot_count == split.wanted[c] || classes[c].slot_bytes > left_bytes) continue;
      const bool is_poorer =
          poorest == classes.size() || classes[c].slot_count * split.wanted[poorest] <
                                           classes[poorest].slot_count * split.wanted[c];
      if (is_poorer) poorest = c;
    }
    if (poorest == classes.size()) return;
    ++classes[poorest].slot_count;
    left_bytes -= classes[poorest].slot_bytes;
  }
}

void Fill(uint64_t budget_bytes, const Split& split, std::vector<SlotClass>& classes) {
  const uint64_t usable_bytes = std::min(budget_bytes, BytesFor(split.wanted, classes));
  SplitEvenly(usable_bytes, split, classes);
  SpendLeftover(usable_bytes - BytesOf(classes), split, classes);
}

// A class that holds all of its experts has nobody to pass through.
int64_t TransitCount(const SlotClass& c) {
  if (c.slot_count == 0 || c.slot_count >= c.expert_count) return 0;
  return std::clamp<int64_t>(c.slot_count / 8, 1, kTransitSlotsMax);
}

void FinishVram(CachePlan& plan) {
  for (SlotClass& c : plan.vram_classes) c.transit_count = TransitCount(c);
  plan.vram_bytes = BytesOf(plan.vram_classes);
  plan.staging_bytes = plan.vram_bytes > 0 ? kStagingSlots * plan.classes.front().slot_bytes : 0;
}

void PlanVram(uint64_t budget_bytes, CachePlan& plan) {
  Split split;
  for (const SlotClass& c : plan.classes) {
    plan.vram_classes.push_back(c);
    split.wanted.push_back(c.expert_count);
    split.minimum.push_back(0);
  }
  Fill(budget_bytes, split, plan.vram_classes);
  FinishVram(plan);
}

}  // namespace

CachePlan WithSlots(CachePlan plan, absl::Span<const int64_t> slots,
                    absl::Span<const int64_t> vram_slots) {
  CHECK(slots.size() == plan.classes.size() && vram_slots.size() == plan.vram_classes.size());
  for (size_t c = 0; c < slots.size(); ++c) plan.classes[c].slot_count = slots[c];
  for (size_t c = 0; c < vram_slots.size(); ++c) plan.vram_classes[c].slot_count = vram_slots[c];
  plan.arena_bytes = BytesOf(plan.classes);
  FinishVram(plan);
  return plan;
}

absl::StatusOr<CachePlan> PlanCache(const ExpertCatalog& catalog, const CacheBudget& budget,
                                    int pins_min, absl::Span<const size_t> alignments) {
  CHECK(pins_min >= 1);
  const ExpertLayout layout(catalog, alignments);
  CachePlan plan;
  plan.pins_min = pins_min;
  for (const ExpertLayout::SizeClass& c : layout.classes()) {
    plan.classes.push_back({.expert_bytes = c.expert_bytes,
                            .slot_bytes = c.slot_bytes,
                            .expert_count = c.expert_count});
  }
  if (budget.has_device) PlanVram(budget.vram_bytes, plan);
  Split split;
  for (size_t c = 0; c < plan.classes.size(); ++c) {
    const int64_t expert_count = plan.classes[c].expert_count;
    split.minimum.push_back(std::min<int64_t>(pins_min, expert_count));
    // One copy of each expert over both tiers.
    const int64_t in_vram =
        budget.has_device ? plan.vram_classes[c].slot_count - plan.vram_classes[c].transit_count
                          : 0;
    split.wanted.push_back(std::max(expert_count - in_vram, split.minimum.back()));
  }
  plan.minimum_budget_bytes = BytesFor(split.minimum, plan.classes) + plan.staging_bytes;
  plan.full_budget_bytes = BytesFor(split.wanted, plan.classes) + plan.staging_bytes;
  if (budget.ram_bytes < plan.minimum_budget_bytes) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} for experts is below the minimum of {}: the {} experts that one token may need in each "
        "of {} size classes{}; give at least that much",
        FormatBytes(budget.ram_bytes), FormatBytes(plan.minimum_budget_bytes), pins_min,
        plan.classes.size(),
        plan.staging_bytes > 0
            ? fmt::format(", and {} to read experts for VRAM into", FormatBytes(plan.staging_bytes))
            : ""));
  }
  Fill(budget.ram_bytes - plan.staging_bytes, split, plan.classes);
  plan.arena_bytes = BytesOf(plan.classes);
  plan.overhead_bytes =
      TableBytes(layout, CountOf(plan.classes) + CountOf(plan.vram_classes), plan.vram_bytes > 0);
  // VRAM is filled by what takes guesses too.
  if (plan.vram_bytes > 0) plan.overhead_bytes += ExpertCache::HintTableBytes(catalog);
  return plan;
}

}  // namespace stoker
