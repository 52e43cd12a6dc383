// Carves slots and keeps their states.
#include "cache/slot_pool.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace stoker {

absl::StatusOr<SlotPool> SlotPool::Create(absl::Span<const SlotClass> classes, int32_t first_slot,
                                          const SlotArena::Options& arena) {
  SlotPool pool;
  pool.first_slot_ = first_slot;
  int64_t slot_count = 0;
  for (const SlotClass& c : classes) slot_count += c.slot_count;
  pool.slots_.reserve(slot_count);
  uint64_t offset = 0;
  for (size_t c = 0; c < classes.size(); ++c) {
    std::vector<int32_t>& empty = pool.empty_.emplace_back();
    empty.reserve(classes[c].slot_count);
    pool.slot_counts_.push_back(static_cast<int32_t>(classes[c].slot_count));
    for (int64_t i = 0; i < classes[c].slot_count; ++i) {
      empty.push_back(first_slot + pool.slot_count());
      pool.slots_.push_back({.offset = offset, .size_class = static_cast<int32_t>(c)});
      offset += classes[c].slot_bytes;
    }
    std::reverse(empty.begin(), empty.end());  // lowest first
  }
  ASSIGN_OR_RETURN(pool.arena_, SlotArena::Create(offset, arena));
  return pool;
}

int32_t SlotPool::Claim(int size_class) {
  if (empty_[size_class].empty()) return -1;
  const int32_t slot = empty_[size_class].back();
  empty_[size_class].pop_back();
  CHECK(At(slot).state == SlotState::kEmpty);
  At(slot).state = SlotState::kLoading;
  return slot;
}

void SlotPool::Arrived(int32_t slot) {
  CHECK(At(slot).state == SlotState::kLoading);
  At(slot).state = SlotState::kReady;
}

void SlotPool::Failed(int32_t slot) {
  CHECK(At(slot).state == SlotState::kLoading);
  SetEmpty(slot);
}

void SlotPool::Pin(int32_t slot) {
  CHECK(At(slot).state == SlotState::kReady || At(slot).state == SlotState::kPinned);
  At(slot).state = SlotState::kPinned;
  ++At(slot).pin_count;
}

void SlotPool::Unpin(int32_t slot) {
  CHECK(At(slot).state == SlotState::kPinned && At(slot).pin_count > 0);
  if (--At(slot).pin_count == 0) At(slot).state = SlotState::kReady;
}

void SlotPool::Evict(int32_t slot) {
  CHECK(At(slot).state == SlotState::kReady);
  SetEmpty(slot);
}

void SlotPool::SetEmpty(int32_t slot) {
  At(slot).state = SlotState::kEmpty;
  empty_[At(slot).size_class].push_back(slot);  // its place was reserved at creation
}

}  // namespace stoker
