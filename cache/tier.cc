// Residency of one tier, its floor and its evictions.
#include "cache/tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

// Claims of a request that are spared while others are there: more than enough to keep a drive
// busy, which takes 1 to 4 whole experts at a time.
constexpr int64_t kClaimsSpared = 8;

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

// Slots for experts that are not admitted: as in VRAM, if that leaves the pins that were planned.
// None where all fit, or everybody is admitted.
int64_t VisitorCountMax(const SlotClass& c, int pins_min, const Tier::Options& options) {
  if (options.kind != TierKind::kRam || c.slot_count >= c.expert_count) return 0;
  if (options.admission.row->name == Admissions().front().name) return 0;
  const int64_t wanted = std::clamp<int64_t>(c.slot_count / 8, 1, kTransitSlotsMax);
  return std::max<int64_t>(0, std::min(wanted, c.slot_count - pins_min));
}

}  // namespace

absl::StatusOr<Tier> Tier::Create(const ExpertLayout& layout, const CachePlan& plan,
                                  const Options& options) {
  const bool is_vram = options.kind == TierKind::kVram;
  const std::vector<SlotClass>& classes = is_vram ? plan.vram_classes : plan.classes;
  bool is_of_layout = classes.size() == layout.classes().size();
  for (size_t c = 0; is_of_layout && c < classes.size(); ++c) {
    is_of_layout = classes[c].slot_bytes == layout.classes()[c].slot_bytes &&
                   classes[c].expert_count == layout.classes()[c].expert_count &&
                   classes[c].slot_count >= (is_vram ? 0 : 1);
  }
  if (!is_of_layout) {
    return absl::InvalidArgumentError(
        "the plan of the expert store was made for another model or for other file alignments; "
        "plan again with this reader's alignments");
  }
  if (options.policy.row->needs_profile && options.profile.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "the cache policy \"{}\" ranks experts by how often earlier runs used them, and there is "
        "no "
        "such profile; run once with --profile FILE and another policy to make one, then name it "
        "again",
        options.policy.name()));
  }
  ASSIGN_OR_RETURN(SlotPool pool, SlotPool::Create(classes, options.first_slot, options.arena));
  // Nobody waits for a slot of VRAM in particular, so any floor leaves enough.
  return Tier(layout, classes, is_vram ? 0 : plan.pins_min, options, std::move(pool));
}

Tier::Tier(const ExpertLayout& layout, absl::Span<const SlotClass> classes, int pins_min,
           const Options& options, SlotPool pool)
    : layout_(&layout),
      pool_(std::move(pool)),
      is_below_another_(options.is_below_another),
      rounds_(classes.size(), LayerRounds(layout.layers().size())),
      visitor_counts_(classes.size(), 0),
      class_resident_counts_(classes.size(), 0),
      residents_(pool_.slot_count()),
      slot_of_key_(layout.key_count(), -1),
      layer_resident_counts_(layout.layers().size(), 0) {
  for (size_t c = 0; c < classes.size(); ++c) {
    visitor_counts_max_.push_back(VisitorCountMax(classes[c], pins_min, options));
    const int64_t slot_count =
        classes[c].slot_count - classes[c].transit_count - visitor_counts_max_.back();
    std::vector<PolicyShape::Layer> shapes;
    for (const ExpertLayout::Layer& layer : layout.layers()) {
      if (layer.size_class != static_cast<int>(c)) continue;
      shapes.push_back({.first_key = layer.first_key, .expert_count = layer.expert_count});
    }
    floors_.push_back(
        ChooseFloor(layout, static_cast<int>(c), slot_count, pins_min, options.layer_floor));
    const PolicyShape shape = {.key_count = layout.key_count(),
                               .slot_count = slot_count,
                               .layers = shapes,
                               .profile = options.profile,
                               .layer_floor = floors_.back()};
    policies_.push_back(options.policy.Make(shape));
    admissions_.push_back(options.admission.Make(shape));
    class_slot_counts_.push_back(slot_count);
  }
}

int Tier::pins_max(int layer_index) const {
  const ExpertLayout::Layer& layer = layout_->layers()[layer_index];
  const int64_t others = layout_->classes()[layer.size_class].layer_count - 1;
  const int64_t slots = class_slot_counts_[layer.size_class] - others * floors_[layer.size_class];
  return static_cast<int>(std::min<int64_t>(slots, layer.expert_count));
}

bool Tier::HoldsForGood(int layer_index) const {
  const ExpertLayout::Layer& layer = layout_->layers()[layer_index];
  if (layer_resident_counts_[layer_index] < layer.expert_count) return false;
  if (!HasSlotForEach(layer.size_class)) return false;
  for (int e = 0; e < layer.expert_count; ++e) {
    const int32_t slot = Find(layer.first_key + e);
    const SlotState state = pool_.state(slot);
    if (state == SlotState::kLoading || At(slot).move_count > 0) return false;
  }
  return true;
}

void Tier::BeginRequest(int layer_index) {
  ++request_;
  rounds_[layout_->layers()[layer_index].size_class].Ask(layer_index);
  for (const auto& policy : policies_) policy->BeginRequest();
}

Tier::Claimed Tier::Claim(ExpertKey key, Patience patience) {
  CHECK(Find(key) < 0);
  const int size_class = layout_->layer_of(key).size_class;
  const Choice choice = Choose(key, patience);
  if (!choice.has_room && choice.victim < 0) return {};
  if (!choice.has_room && !admissions_[size_class]->Admits(key, choice.victim)) {
    if (visitor_counts_[size_class] < visitor_counts_max_[size_class]) {
      return {.slot = ClaimVisit(key)};
    }
    // Sooner admitted than stuck.
    const bool may_wait = patience == Patience::kForTheChosen && !is_below_another_;
    if (may_wait && visitor_counts_[size_class] > 0) return {};
  }
  if (!choice.has_room) {
    const int32_t victim = Find(choice.victim);
    if (!IsIdle(victim)) return {};
    Evict(victim);
  }
  const int32_t slot = pool_.Claim(size_class);
  AddResident(slot, key);
  return {.slot = slot, .evicted = choice.victim};
}

// Asked of the policy twice at most: about bystanders, then about members. That a quota is full
// comes before that a slot is Empty.
Tier::Choice Tier::Choose(ExpertKey incoming, Patience patience) {
  const int layer_index = layout_->layer_index_of(incoming);
  const int size_class = layout_->layers()[layer_index].size_class;
  EvictionPolicy& policy = *policies_[size_class];
  const bool is_patient = patience == Patience::kForTheChosen && !is_below_another_;
  const auto may_go = [&](ExpertKey key) {
    return IsEvictable(key, layer_index) && !(is_patient && IsMember(key));
  };
  const auto crowded = [&](Evictable evictable) { return policy.PickCrowded(incoming, evictable); };
  const auto victim = [&](Evictable evictable) { return policy.PickVictim(incoming, evictable); };
  Choice choice = {.victim = PickUnguarded(crowded, may_go)};
  if (choice.victim < 0 && is_patient) choice.victim = PickMember(crowded);
  if (choice.victim >= 0) return choice;
  choice.has_room = HasEmpty(size_class);
  if (choice.has_room) return choice;
  choice.victim = PickUnguarded(victim, may_go);
  if (choice.victim < 0 && is_patient) choice.victim = PickMember(victim);
  return choice;
}

// A member of the running request, which is of one layer, so no floor is in the way.
ExpertKey Tier::PickMember(Pick pick) const {
  ExpertKey member = -1;
  for (int64_t spared = kClaimsSpared; member < 0; spared /= 2) {
    member = pick([&](ExpertKey key) {
      return IsMember(key) && At(Find(key)).claim <= claim_count_ - spared;
    });
    if (spared == 0) break;
  }
  return member;
}

int32_t Tier::ClaimVisit(ExpertKey key) {
  const int size_class = layout_->layer_of(key).size_class;
  const int32_t slot = pool_.Claim(size_class);
  CHECK(slot >= 0);  // slots are set aside for as many
  Occupy(slot, key);
  At(slot).is_transit = true;
  slot_of_key_[key] = slot;
  ++visitor_counts_[size_class];
  ++refused_count_;
  return slot;
}

Tier::Claimed Tier::ClaimOnHint(ExpertKey key, Evictable may_go) {
  CHECK(Find(key) < 0);
  const int layer_index = layout_->layer_index_of(key);
  Claimed claimed = {.evicted = ChooseVictim(key, [&](ExpertKey resident) {
                       return IsEvictable(resident, layer_index) && may_go(resident);
                     })};
  if (claimed.evicted >= 0) Evict(Find(claimed.evicted));
  const int size_class = layout_->layer_of(key).size_class;
  if (!HasEmpty(size_class)) return claimed;  // but for those set aside for visitors
  claimed.slot = pool_.Claim(size_class);
  AddResident(claimed.slot, key, Arrival::kHint);
  At(claimed.slot).request = -1;  // no member of whatever request is running
  Unkeep(claimed.slot);
  return claimed;
}

bool Tier::HasEmpty(int size_class) const {
  return class_resident_counts_[size_class] < class_slot_counts_[size_class] &&
         pool_.has_empty(size_class);
}

bool Tier::HasRoom(ExpertKey key) const {
  const int size_class = layout_->layer_of(key).size_class;
  return HasEmpty(size_class) &&
         policies_[size_class]->PickCrowded(key, [](ExpertKey) { return true; }) < 0;
}

int32_t Tier::ClaimEmpty(ExpertKey key, Arrival arrival) {
  CHECK(Find(key) < 0);
  const int size_class = layout_->layer_of(key).size_class;
  if (!HasEmpty(size_class)) return -1;
  const int32_t slot = pool_.Claim(size_class);
  AddResident(slot, key, arrival);
  return slot;
}

int32_t Tier::ClaimTransit(ExpertKey key) {
  const int32_t slot = pool_.Claim(layout_->layer_of(key).size_class);
  if (slot < 0) return slot;
  Occupy(slot, key);
  At(slot).is_transit = true;
  return slot;
}

void Tier::AddResident(int32_t slot, ExpertKey key, Arrival arrival) {
  const int layer_index = layout_->layer_index_of(key);
  const int size_class = layout_->layers()[layer_index].size_class;
  slot_of_key_[key] = slot;
  ++layer_resident_counts_[layer_index];
  ++class_resident_counts_[size_class];
  ++resident_count_;
  policies_[size_class]->Inserted(key, arrival);
  Occupy(slot, key);
  At(slot).request = request_;
  At(slot).claim = ++claim_count_;
}

void Tier::Occupy(int32_t slot, ExpertKey key) {
  Resident& resident = At(slot);
  resident = {.key = key, .is_kept = true};
  for (int p = 0; p < layout_->layer_of(key).part_count; ++p) {
    const ExpertLayout::PartRead read = layout_->Read(key, p);
    resident.parts[p] = pool_.data(slot) + read.position + read.skip;
  }
}

bool Tier::IsEvictable(ExpertKey key, int for_layer) const {
  const int32_t slot = Find(key);
  if (!IsIdle(slot)) return false;
  const int layer_index = layout_->layer_index_of(key);
  if (layer_index == for_layer) return true;
  const int size_class = layout_->layers()[layer_index].size_class;
  return layer_resident_counts_[layer_index] > floors_[size_class] ||
         rounds_[size_class].IsIdle(layer_index);
}

ExpertKey Tier::PickUnguarded(Pick pick, Evictable may_go) const {
  if (!guards_.empty()) {
    const ExpertKey key = pick([&](ExpertKey k) { return guards_[k] == 0 && may_go(k); });
    if (key >= 0) return key;
  }
  return pick(may_go);
}

ExpertKey Tier::ChooseVictim(ExpertKey incoming, Evictable may_go) {
  const int size_class = layout_->layer_of(incoming).size_class;
  EvictionPolicy& policy = *policies_[size_class];
  const ExpertKey crowded = PickUnguarded(
      [&](Evictable evictable) { return policy.PickCrowded(incoming, evictable); }, may_go);
  if (crowded >= 0 || HasEmpty(size_class)) return crowded;
  return PickUnguarded([&](Evictable evictable) { return policy.PickVictim(incoming, evictable); },
                       may_go);
}

ExpertKey Tier::Victim(ExpertKey incoming) {
  const int layer_index = layout_->layer_index_of(incoming);
  return ChooseVictim(incoming, [&](ExpertKey key) { return IsEvictable(key, layer_index); });
}

void Tier::Evict(int32_t slot) {
  Forget(slot);
  pool_.Evict(slot);
}

void Tier::LeavePolicy(int32_t slot) {
  const int layer_index = layout_->layer_index_of(At(slot).key);
  const int size_class = layout_->layers()[layer_index].size_class;
  policies_[size_class]->Removed(At(slot).key);
  --layer_resident_counts_[layer_index];
  --class_resident_counts_[size_class];
}

void Tier::Forget(int32_t slot) {
  LeavePolicy(slot);
  slot_of_key_[At(slot).key] = -1;
  --resident_count_;
  At(slot) = {};
}

void Tier::BeginLeave(int32_t slot) {
  CHECK(IsIdle(slot) && !At(slot).is_leaving && !At(slot).is_transit);
  LeavePolicy(slot);
  At(slot).is_leaving = true;
  BeginMove(slot);
}

// What is still held is held as a copy in transit.
void Tier::EndLeave(int32_t slot) {
  CHECK(At(slot).is_leaving);
  slot_of_key_[At(slot).key] = -1;
  --resident_count_;
  At(slot).is_leaving = false;
  EndMove(slot);
  At(slot).is_transit = true;
  FreeIdleTransit(slot);
}

void Tier::FreeIdleTransit(int32_t slot) {
  if (!At(slot).is_transit || !IsIdle(slot)) return;
  EndVisit(slot);
  pool_.Evict(slot);
}

void Tier::EndVisit(int32_t slot) {
  if (is_visitor(slot)) {
    const ExpertKey key = At(slot).key;
    slot_of_key_[key] = -1;
    --visitor_counts_[layout_->layer_of(key).size_class];
  }
  At(slot) = {};
}

void Tier::EndMove(int32_t slot) {
  --At(slot).move_count;
  FreeIdleTransit(slot);
}

void Tier::Arrived(int32_t slot) { pool_.Arrived(slot); }

void Tier::ArrivesWith(int32_t slot, DeviceEvent ready) {
  pool_.Arrived(slot);
  At(slot).ready = ready;
}

void Tier::Failed(int32_t slot) {
  if (At(slot).is_transit) {
    EndVisit(slot);
  } else {
    Forget(slot);
  }
  pool_.Failed(slot);
}

void Tier::Unpin(int32_t slot) {
  pool_.Unpin(slot);
  FreeIdleTransit(slot);
}

// One that leaves, or only visits, has no rank to gain.
void Tier::Touch(ExpertKey key) {
  if (At(Find(key)).is_leaving || At(Find(key)).is_transit) return;
  policies_[layout_->layer_of(key).size_class]->Touched(key);
}

void Tier::Keep(int32_t slot) {
  CHECK(!At(slot).is_kept);
  At(slot).is_kept = true;
  At(slot).request = request_;
}

void Tier::Unkeep(int32_t slot) {
  CHECK(At(slot).is_kept);
  At(slot).is_kept = false;
  FreeIdleTransit(slot);
}

void Tier::Report(CounterVisitor& visitor) const {
  for (const auto& policy : policies_) policy->Report(visitor);
  for (const auto& admission : admissions_) admission->Report(visitor);
  bool may_refuse = false;
  for (const int64_t count : visitor_counts_max_) may_refuse = may_refuse || count > 0;
  if (may_refuse) visitor.Counter("cache_not_admitted", refused_count_);
}

}  // namespace stoker
