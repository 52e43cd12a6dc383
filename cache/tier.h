// One tier of the expert store: slots, who is in them, and who gives way.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/expert_catalog.h"
#include "cache/expert_cache.h"
#include "cache/expert_layout.h"
#include "cache/layer_rounds.h"
#include "cache/policy.h"
#include "cache/slot_pool.h"

namespace stoker {

// Residency, one policy and one admission a size class, and the per-layer floor. Reads and copies
// nothing: a claimed slot is filled by the caller, who then says Arrived or Failed. One thread;
// allocates nothing after creation.
//
// A slot may also be in transit: it is Empty again as soon as it is neither kept nor pinned nor
// moving, and neither policy nor floor counts it. In VRAM it holds a copy that nobody finds; in RAM
// a visitor, an expert that was not admitted, which is found while it is there. A resident that
// leaves for RAM is found until EndLeave, but is out of the policy's and the floor's count from
// BeginLeave on.
//
// Who goes for an expert must not depend on which read was faster, or the same run would hit and
// miss differently each time. The running request's members, those that it found here and those
// claimed since, are therefore told apart from bystanders, whatever became of them meanwhile. A
// bystander goes if one may: nobody uses it, so it is idle. Else the policy chooses a member, and
// the claim waits until that one is idle. The last few claimed are spared as long as others are
// there, or a policy that ranks newcomers low would have each read wait for the one before it.
// Below a tier that experts are promoted to this cannot hold, for when copies end is up to the
// link: there whoever is idle goes, member or not.
class Tier {
 public:
  struct Options {
    TierKind kind = TierKind::kRam;
    PolicyChoice policy;
    AdmissionChoice admission = {.row = &Admissions().front()};
    bool is_below_another = false;       // experts are promoted from here
    absl::Span<const uint32_t> profile;  // uses by key, of earlier runs; may be empty
    int layer_floor = -1;                // as CacheOptions
    int32_t first_slot = 0;              // slots are numbered from here
    SlotArena::Options arena = {};
  };
  // `layout` must outlive the tier. InvalidArgument when the plan is of other slots.
  static absl::StatusOr<Tier> Create(const ExpertLayout& layout, const CachePlan& plan,
                                     const Options& options);

  const SlotPool& pool() const { return pool_; }
  // Slots that experts of one layer may hold at once whatever the other layers hold: those of its
  // class less the floors of the class's other layers.
  int pins_max(int layer_index) const;
  int layer_floor(int size_class) const { return floors_[size_class]; }

  // Whether each of a layer's experts is here, nothing under way with it, and none will ever give
  // way, because every expert of the class has a slot. A copy that fills a slot may still run.
  bool HoldsForGood(int layer_index) const;

  // The slot that holds the expert or is being filled with it; -1 when there is none.
  int32_t Find(ExpertKey key) const { return slot_of_key_[key]; }
  ExpertKey key_in(int32_t slot) const { return At(slot).key; }
  const std::byte* const* parts(int32_t slot) const { return At(slot).parts.data(); }
  // Of a slot that a copy fills: what has to come before its bytes are there.
  DeviceEvent ready(int32_t slot) const { return At(slot).ready; }
  int64_t resident_count() const { return resident_count_; }  // Loading ones included

  // A request of a layer begins: of what is here nothing is a member of it yet. Keep and Claim make
  // members.
  void BeginRequest(int layer_index);
  // A step uses an expert, wherever it is; before it is claimed for that use.
  void Used(ExpertKey key) { admissions_[layout_->layer_of(key).size_class]->Used(key); }
  // Takes a slot for an expert that has none: an Empty one, else that of the policy's victim; one
  // in transit if it is not admitted. The slot is Loading and kept. `slot` is -1 when the claim has
  // to wait; asked again, it waits for the same. kForNobody: whoever is idle goes, and -1 means
  // that every slot of the class is busy, kept or protected.
  enum class Patience : uint8_t { kForTheChosen, kForNobody };
  struct Claimed {
    int32_t slot = -1;
    ExpertKey evicted = -1;  // who was there
  };
  Claimed Claim(ExpertKey key, Patience patience = Patience::kForTheChosen);
  bool is_visitor(int32_t slot) const { return At(slot).is_transit && Find(At(slot).key) == slot; }
  // As Claim, on a guess: only a resident for which `may_go` holds gives way, and the slot is not
  // kept.
  Claimed ClaimOnHint(ExpertKey key, Evictable may_go);
  // Residents that give way only where nobody else may: by key, not 0; none when empty. What the
  // span is of must outlive the tier, and may change.
  void Guard(absl::Span<const uint8_t> guards) { guards_ = guards; }
  // Whether an expert would find an Empty slot, beyond those set aside for transit, and nobody
  // would have to go for it.
  bool HasRoom(ExpertKey key) const;
  bool has_slots(int size_class) const { return pool_.slot_count(size_class) > 0; }
  // Slots of a class but for those set aside for transit and visitors.
  int64_t resident_max(int size_class) const { return class_slot_counts_[size_class]; }
  // Whether every expert of the class has such a slot, so that nobody ever gives way.
  bool HasSlotForEach(int size_class) const {
    return resident_max(size_class) >= layout_->classes()[size_class].expert_count;
  }
  // Takes such a slot, whoever would have had to go; -1 when there is none. Loading and kept.
  int32_t ClaimEmpty(ExpertKey key, Arrival arrival = Arrival::kDemand);
  // Takes any Empty slot for a copy of the expert that is not a residency; else -1. Loading, kept.
  int32_t ClaimTransit(ExpertKey key);
  // The resident that has to give way to an expert; -1 when none has to, or none may. It stays.
  ExpertKey Victim(ExpertKey incoming);
  void Arrived(int32_t slot);
  void Failed(int32_t slot);
  void ArrivesWith(int32_t slot, DeviceEvent ready);  // Arrived, for whoever waits for the event
  // A Ready resident goes: the slot is Empty.
  void Evict(int32_t slot);
  void BeginLeave(int32_t slot);
  void EndLeave(int32_t slot);
  // A moving slot is the source or target of copies between tiers: it is not evicted.
  void BeginMove(int32_t slot) { ++At(slot).move_count; }
  void EndMove(int32_t slot);
  // Whether nobody needs the slot to stay as it is.
  bool IsIdle(int32_t slot) const {
    return pool_.state(slot) == SlotState::kReady && !At(slot).is_kept && At(slot).move_count == 0;
  }
  void Touch(ExpertKey key);
  void Pin(int32_t slot) { pool_.Pin(slot); }
  void Unpin(int32_t slot);
  // A kept slot is not evicted although it is not pinned: the running request counts on it, and it
  // is a member.
  void Keep(int32_t slot);
  void Unkeep(int32_t slot);

  void Report(CounterVisitor& visitor) const;

 private:
  struct Resident {
    ExpertKey key = -1;
    bool is_kept = false;
    bool is_leaving = false;
    bool is_transit = false;
    int32_t move_count = 0;
    int64_t request = -1;  // the last that it was a member of
    int64_t claim = 0;     // number of its claim
    DeviceEvent ready;
    std::array<const std::byte*, kExpertPartsMax> parts = {};
  };
  Tier(const ExpertLayout& layout, absl::Span<const SlotClass> classes, int pins_min,
       const Options& options, SlotPool pool);
  Resident& At(int32_t slot) { return residents_[slot - pool_.first_slot()]; }
  const Resident& At(int32_t slot) const { return residents_[slot - pool_.first_slot()]; }
  // Who has to go for an expert.
  struct Choice {
    bool has_room = false;  // nobody
    ExpertKey victim = -1;  // -1 without room: nobody may
  };
  bool HasEmpty(int size_class) const;
  bool IsEvictable(ExpertKey key, int for_layer) const;
  bool IsMember(ExpertKey key) const { return At(Find(key)).request == request_; }
  // `pick` says whom of those that may go; the guarded are asked for last.
  using Pick = absl::FunctionRef<ExpertKey(Evictable)>;
  ExpertKey PickUnguarded(Pick pick, Evictable may_go) const;
  // Who goes for `incoming`, of those that may: -1 when nobody has to, or nobody may.
  ExpertKey ChooseVictim(ExpertKey incoming, Evictable may_go);
  Choice Choose(ExpertKey incoming, Patience patience);
  ExpertKey PickMember(Pick pick) const;
  int32_t ClaimVisit(ExpertKey key);
  void Occupy(int32_t slot, ExpertKey key);
  void AddResident(int32_t slot, ExpertKey key, Arrival arrival = Arrival::kDemand);
  void LeavePolicy(int32_t slot);
  void Forget(int32_t slot);
  void FreeIdleTransit(int32_t slot);
  void EndVisit(int32_t slot);

  const ExpertLayout* layout_;
  SlotPool pool_;
  std::vector<std::unique_ptr<EvictionPolicy>> policies_;     // by class
  std::vector<std::unique_ptr<AdmissionPolicy>> admissions_;  // by class
  const bool is_below_another_;
  std::vector<int> floors_;                     // by class
  std::vector<LayerRounds> rounds_;             // by class, of layer indices
  std::vector<int64_t> class_slot_counts_;      // transit not included
  std::vector<int64_t> visitor_counts_;         // by class
  std::vector<int64_t> visitor_counts_max_;     // slots set aside for them
  std::vector<int64_t> class_resident_counts_;  // leaving ones not included
  int64_t resident_count_ = 0;
  int64_t request_ = 0;
  int64_t claim_count_ = 0;
  uint64_t refused_count_ = 0;
  std::vector<Resident> residents_;             // by slot
  std::vector<int32_t> slot_of_key_;            // -1: not here
  std::vector<int32_t> layer_resident_counts_;  // by layer index; Loading ones included
  absl::Span<const uint8_t> guards_;            // by key; see Guard
};

}  // namespace stoker
