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
// key's place, hash and history, and what policies hold of it (one policy a class, 20 bytes at
// most); and a fixed part for miss records and small vectors.
constexpr uint64_t kTableBytesPerSlot = 512;
constexpr uint64_t kTableBytesPerKey = 32;
constexpr uint64_t kPolicyBytesPerKey = 24;
constexpr uint64_t kTableBytesFixed = 64 << 10;

uint64_t TableBytes(const ExpertLayout& layout, int64_t slot_count) {
  const uint64_t per_key = kTableBytesPerKey + kPolicyBytesPerKey * layout.classes().size();
  return kTableBytesFixed + kTableBytesPerSlot * static_cast<uint64_t>(slot_count) +
         per_key * static_cast<uint64_t>(layout.key_count()) + 256 * layout.layers().size();
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

// Gives each class the same fraction of its experts, but no class less than its minimum: classes
// whose fraction would be less keep the minimum, and the others share what is left, until it holds.
void SplitEvenly(uint64_t budget_bytes, absl::Span<const int64_t> minimum,
                 std::vector<SlotClass>& classes) {
  std::vector<bool> is_at_minimum(classes.size(), false);
  for (bool is_settled = false; !is_settled;) {
    uint64_t shared_bytes = budget_bytes;
    uint64_t wanted_bytes = 0;  // by the classes that share
    for (size_t c = 0; c < classes.size(); ++c) {
      if (is_at_minimum[c]) {
        shared_bytes -= classes[c].slot_bytes * static_cast<uint64_t>(minimum[c]);
      } else {
        wanted_bytes += classes[c].slot_bytes * static_cast<uint64_t>(classes[c].expert_count);
      }
    }
    is_settled = true;
    for (size_t c = 0; c < classes.size(); ++c) {
      if (!is_at_minimum[c]) {
        classes[c].slot_count = Share(classes[c].expert_count, shared_bytes, wanted_bytes);
      }
      if (is_at_minimum[c] || classes[c].slot_count >= minimum[c]) continue;
      classes[c].slot_count = minimum[c];
      is_at_minimum[c] = true;
      is_settled = false;
    }
  }
}

// Spends what rounding left on single slots, the class with the smallest fraction resident first.
void SpendLeftover(uint64_t left_bytes, std::vector<SlotClass>& classes) {
  while (true) {
    SlotClass* poorest = nullptr;
    for (SlotClass& c : classes) {
      if (c.slot_count == c.expert_count || c.slot_bytes > left_bytes) continue;
      const bool is_poorer = poorest == nullptr || c.slot_count * poorest->expert_count <
                                                       poorest->slot_count * c.expert_count;
      if (is_poorer) poorest = &c;
    }
    if (poorest == nullptr) return;
    ++poorest->slot_count;
    left_bytes -= poorest->slot_bytes;
  }
}

}  // namespace

absl::StatusOr<CachePlan> PlanCache(const ExpertCatalog& catalog, const CacheBudget& budget,
                                    int pins_min, absl::Span<const size_t> alignments) {
  const uint64_t budget_bytes = budget.ram_bytes;
  CHECK(pins_min >= 1);
  const ExpertLayout layout(catalog, alignments);
  CachePlan plan;
  plan.pins_min = pins_min;
  std::vector<int64_t> minimum;
  for (const ExpertLayout::SizeClass& c : layout.classes()) {
    plan.classes.push_back({.expert_bytes = c.expert_bytes,
                            .slot_bytes = c.slot_bytes,
                            .expert_count = c.expert_count});
    minimum.push_back(std::min<int64_t>(pins_min, c.expert_count));
    plan.minimum_budget_bytes += c.slot_bytes * static_cast<uint64_t>(minimum.back());
    plan.full_budget_bytes += c.slot_bytes * static_cast<uint64_t>(c.expert_count);
  }
  if (budget_bytes < plan.minimum_budget_bytes) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} for experts is below the minimum of {}: the {} experts that one token may need in each "
        "of {} size classes; give at least that much",
        FormatBytes(budget_bytes), FormatBytes(plan.minimum_budget_bytes), pins_min,
        plan.classes.size()));
  }
  const uint64_t usable_bytes = std::min(budget_bytes, plan.full_budget_bytes);
  SplitEvenly(usable_bytes, minimum, plan.classes);
  SpendLeftover(usable_bytes - BytesOf(plan.classes), plan.classes);
  plan.arena_bytes = BytesOf(plan.classes);
  int64_t slot_count = 0;
  for (const SlotClass& c : plan.classes) slot_count += c.slot_count;
  plan.overhead_bytes = TableBytes(layout, slot_count);
  return plan;
}

}  // namespace stoker
