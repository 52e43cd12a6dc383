// The slots of one tier: equal ones by size class, carved once from one arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cache/expert_cache.h"
#include "cache/slot_arena.h"

namespace stoker {

//     Empty --Claim--> Loading --Arrived--> Ready --Pin--> Pinned(n) --Unpin--> Ready
//       ^                 |                   |
//       +-----Failed------+-------Evict-------+
enum class SlotState : uint8_t { kEmpty, kLoading, kReady, kPinned };

// Knows states, not experts. Each transition is one function that asserts its start; all are O(1)
// and none allocates.
class SlotPool {
 public:
  // Slots are numbered from `first_slot`, so that the tiers of one store do not overlap.
  // ResourceExhausted when the arena cannot be had.
  static absl::StatusOr<SlotPool> Create(absl::Span<const SlotClass> classes, int32_t first_slot,
                                         const SlotArena::Options& arena = {});

  int32_t first_slot() const { return first_slot_; }
  int32_t slot_count() const { return static_cast<int32_t>(slots_.size()); }
  int32_t slot_count(int size_class) const { return slot_counts_[size_class]; }
  SlotState state(int32_t slot) const { return At(slot).state; }
  std::byte* data(int32_t slot) const { return arena_.data() + At(slot).offset; }
  // Empty when the slots are in device memory.
  const HostBuffer& arena() const { return arena_.host(); }
  bool has_empty(int size_class) const { return !empty_[size_class].empty(); }

  // An Empty slot of the class, now Loading; -1 when there is none.
  int32_t Claim(int size_class);
  void Arrived(int32_t slot);
  void Failed(int32_t slot);
  // A slot that is pinned already is pinned once more.
  void Pin(int32_t slot);
  void Unpin(int32_t slot);
  void Evict(int32_t slot);

 private:
  struct Slot {
    uint64_t offset = 0;  // in the arena
    int32_t size_class = 0;
    int32_t pin_count = 0;
    SlotState state = SlotState::kEmpty;
  };
  SlotPool() = default;
  Slot& At(int32_t slot) { return slots_[slot - first_slot_]; }
  const Slot& At(int32_t slot) const { return slots_[slot - first_slot_]; }
  void SetEmpty(int32_t slot);

  SlotArena arena_;
  std::vector<Slot> slots_;
  std::vector<std::vector<int32_t>> empty_;  // by class; the last is claimed next
  std::vector<int32_t> slot_counts_;         // by class
  int32_t first_slot_ = 0;
};

}  // namespace stoker
