// Residency of one tier, its floor and its evictions.
#include "cache/tier.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

// See expert_cache.h for the rule. A class whose experts all fit never evicts and needs no floor.
int ChooseFloor(const ExpertLayout& layout, int size_class, int64_t slot_count, int pins_min,
                int asked) {
  const ExpertLayout::SizeClass& c = layout.classes()[size_class];
  if (c.layer_count == 1 || slot_count >= c.expert_count) return 0;
  const int64_t possible = std::max<int64_t>(0, (slot_count - pins_min) / (c.layer_count - 1));
  if (asked >= 0) return static_cast<int>(std::min<int64_t>(asked, possible));
  int expert_count_min = std::numeric_limits<int>::max();
  for (const ExpertLayout::Layer& layer : layout.layers()) {
    if (layer.size_class == size_class) {
      expert_count_min = std::min(expert_count_min, layer.expert_count);
    }
  }
  const int64_t even = slot_count / c.layer_count;
  return static_cast<int>(std::min<int64_t>({possible, even, expert_count_min / 2}));
}

}  // namespace

absl::StatusOr<Tier> Tier::Create(const ExpertLayout& layout, const CachePlan& plan,
                                  const Options& options) {
  bool is_of_layout = plan.classes.size() == layout.classes().size();
  for (size_t c = 0; is_of_layout && c < plan.classes.size(); ++c) {
    is_of_layout = plan.classes[c].slot_bytes == layout.classes()[c].slot_bytes &&
                   plan.classes[c].expert_count == layout.classes()[c].expert_count &&
                   plan.classes[c].slot_count >= 1;
  }
  if (!is_of_layout) {
    return absl::InvalidArgumentError(
        "the plan of the expert store was made for another model or for other file alignments; "
        "plan again with this reader's alignments");
  }
  ASSIGN_OR_RETURN(SlotPool pool, SlotPool::Create(plan.classes, options.first_slot));
  return Tier(layout, plan, options, std::move(pool));
}

Tier::Tier(const ExpertLayout& layout, const CachePlan& plan, const Options& options, SlotPool pool)
    : layout_(&layout),
      pool_(std::move(pool)),
      residents_(pool_.slot_count()),
      slot_of_key_(layout.key_count(), -1),
      layer_resident_counts_(layout.layers().size(), 0) {
  for (size_t c = 0; c < plan.classes.size(); ++c) {
    const int64_t slot_count = plan.classes[c].slot_count;
    policies_.push_back(options.policy->make(layout.key_count()));
    floors_.push_back(
        ChooseFloor(layout, static_cast<int>(c), slot_count, plan.pins_min, options.layer_floor));
    class_slot_counts_.push_back(slot_count);
  }
}

int Tier::pins_max(int layer_index) const {
  const ExpertLayout::Layer& layer = layout_->layers()[layer_index];
  const int64_t others = layout_->classes()[layer.size_class].layer_count - 1;
  const int64_t slots = class_slot_counts_[layer.size_class] - others * floors_[layer.size_class];
  return static_cast<int>(std::min<int64_t>(slots, layer.expert_count));
}

Tier::Claimed Tier::Claim(ExpertKey key) {
  CHECK(Find(key) < 0);
  const int layer_index = layout_->layer_index_of(key);
  const ExpertLayout::Layer& layer = layout_->layers()[layer_index];
  Claimed claimed = {.slot = pool_.Claim(layer.size_class)};
  if (claimed.slot < 0) {
    claimed.evicted = EvictFor(layer_index);
    if (claimed.evicted < 0) return claimed;
    claimed.slot = pool_.Claim(layer.size_class);
  }
  slot_of_key_[key] = claimed.slot;
  ++layer_resident_counts_[layer_index];
  policies_[layer.size_class]->Inserted(key);
  Resident& resident = At(claimed.slot);
  resident = {.key = key, .is_kept = true};
  for (int p = 0; p < layer.part_count; ++p) {
    const ExpertLayout::PartRead read = layout_->Read(key, p);
    resident.parts[p] = pool_.data(claimed.slot) + read.position + read.skip;
  }
  return claimed;
}

bool Tier::IsEvictable(ExpertKey key, int for_layer) const {
  const int32_t slot = Find(key);
  if (pool_.state(slot) != SlotState::kReady || At(slot).is_kept) return false;
  const int layer_index = layout_->layer_index_of(key);
  if (layer_index == for_layer) return true;
  const int floor = floors_[layout_->layers()[layer_index].size_class];
  return layer_resident_counts_[layer_index] > floor;
}

ExpertKey Tier::EvictFor(int layer_index) {
  const int size_class = layout_->layers()[layer_index].size_class;
  const ExpertKey victim = policies_[size_class]->PickVictim(
      [&](ExpertKey key) { return IsEvictable(key, layer_index); });
  if (victim < 0) return victim;
  const int32_t slot = Find(victim);
  Forget(slot);
  pool_.Evict(slot);
  return victim;
}

void Tier::Forget(int32_t slot) {
  const ExpertKey key = At(slot).key;
  policies_[layout_->layer_of(key).size_class]->Removed(key);
  --layer_resident_counts_[layout_->layer_index_of(key)];
  slot_of_key_[key] = -1;
  At(slot) = {};
}

void Tier::Arrived(int32_t slot) { pool_.Arrived(slot); }

void Tier::Failed(int32_t slot) {
  Forget(slot);
  pool_.Failed(slot);
}

void Tier::Touch(ExpertKey key) { policies_[layout_->layer_of(key).size_class]->Touched(key); }

void Tier::Keep(int32_t slot) {
  CHECK(!At(slot).is_kept);
  At(slot).is_kept = true;
}

void Tier::Unkeep(int32_t slot) {
  CHECK(At(slot).is_kept);
  At(slot).is_kept = false;
}

void Tier::Report(CounterVisitor& visitor) const {
  for (const auto& policy : policies_) policy->Report(visitor);
}

}  // namespace stoker
