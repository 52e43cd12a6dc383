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
#include "cache/policy.h"
#include "cache/slot_pool.h"

namespace stoker {

// Residency, one policy a size class, and the per-layer floor. Reads and copies nothing: a claimed
// slot is filled by the caller, who then says Arrived or Failed. One thread; allocates nothing
// after creation.
//
// In VRAM a slot may also be in transit: it holds a copy that nobody finds, and is Empty again as
// soon as it is neither kept nor pinned. A resident that leaves for RAM is found until EndLeave,
// but is out of the policy's and the floor's count from BeginLeave on.
class Tier {
 public:
  struct Options {
    TierKind kind = TierKind::kRam;
    PolicyChoice policy;
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

  // Takes a slot for an expert that has none: an Empty one, else that of the policy's victim. The
  // slot is Loading and kept. `slot` is -1 when every slot of the class is busy, kept or protected.
  struct Claimed {
    int32_t slot = -1;
    ExpertKey evicted = -1;  // who was there
  };
  Claimed Claim(ExpertKey key);
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
  // Takes such a slot, whoever would have had to go; -1 when there is none. Loading and kept.
  int32_t ClaimEmpty(ExpertKey key);
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
  void EndMove(int32_t slot) { --At(slot).move_count; }
  // Whether nobody needs the slot to stay as it is.
  bool IsIdle(int32_t slot) const {
    return pool_.state(slot) == SlotState::kReady && !At(slot).is_kept && At(slot).move_count == 0;
  }
  void Touch(ExpertKey key);
  void Pin(int32_t slot) { pool_.Pin(slot); }
  void Unpin(int32_t slot);
  // A kept slot is not evicted although it is not pinned: the running request counts on it.
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
    DeviceEvent ready;
    std::array<const std::byte*, kExpertPartsMax> parts = {};
  };
  Tier(const ExpertLayout& layout, absl::Span<const SlotClass> classes, int pins_min,
       const Options& options, SlotPool pool);
  Resident& At(int32_t slot) { return residents_[slot - pool_.first_slot()]; }
  const Resident& At(int32_t slot) const { return residents_[slot - pool_.first_slot()]; }
  bool HasEmpty(int size_class) const;
  // Who goes for `incoming`, of those that may: -1 when nobody has to, or nobody may.
  ExpertKey ChooseVictim(ExpertKey incoming, Evictable evictable);
  bool IsEvictable(ExpertKey key, int for_layer) const;
  ExpertKey EvictFor(ExpertKey incoming);
  void Occupy(int32_t slot, ExpertKey key);
  void AddResident(int32_t slot, ExpertKey key, Arrival arrival = Arrival::kDemand);
  void LeavePolicy(int32_t slot);
  void Forget(int32_t slot);
  void FreeIdleTransit(int32_t slot);

  const ExpertLayout* layout_;
  SlotPool pool_;
  std::vector<std::unique_ptr<EvictionPolicy>> policies_;  // by class
  std::vector<int> floors_;                                // by class
  std::vector<int64_t> class_slot_counts_;                 // transit not included
  std::vector<int64_t> class_resident_counts_;             // leaving ones not included
  int64_t resident_count_ = 0;
  std::vector<Resident> residents_;             // by slot
  std::vector<int32_t> slot_of_key_;            // -1: not here
  std::vector<int32_t> layer_resident_counts_;  // by layer index; Loading ones included
  absl::Span<const uint8_t> guards_;            // by key; see Guard
};

}  // namespace stoker
