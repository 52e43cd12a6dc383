// Moves experts between VRAM and RAM: who goes up, who comes down in return, and who only visits.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/bounded_queue.h"
#include "cache/expert_cache.h"
#include "cache/expert_layout.h"
#include "cache/expert_mover.h"
#include "cache/placement.h"
#include "cache/promotion.h"
#include "cache/slot_arena.h"
#include "cache/tier.h"

namespace stoker {

// An expert has one copy over the two tiers, except while it moves; it then is found in VRAM.
//
//   file --read--> staging --copy--> VRAM     while VRAM has room
//   RAM  --copy--> VRAM                       promotion: into room, or in exchange for the policy's
//                                             victim if PromotionRule admits it
//   VRAM --copy--> RAM                        the victim, into the slot that the promoted one left
//   RAM  --copy--> transit slot of VRAM       anything else that the device is to compute
//
// Slots set aside for transit let an expert come in before another has gone out, so no copy waits
// for another. The device's side needs no waiting here: a VRAM slot is Ready when its copy has been
// queued, and whoever reads it waits for Tier::ready; copies into one slot are in order on their
// stream; and a slot is taken anew only when no pin is on it, that is, after what read it. The
// host's side does: a RAM slot or staging buffer that is source or target of a copy is moving until
// the copy has ended.
//
// One thread; allocates nothing after creation.
class TierExchange {
 public:
  // Experts that may wait to be promoted in the background; more are forgotten.
  static constexpr size_t kCandidatesMax = 64;

  struct Options {
    Device* device = nullptr;
    uint64_t staging_bytes = 0;
    SlotArena::Kind staging_kind = SlotArena::Kind::kPinned;
    LinkRates rates;
    ResidencyObserver* residency = nullptr;  // may be null
  };
  // Takes the staging ring, and pins it if it is of that kind. All that is passed by reference must
  // outlive the exchange.
  static absl::StatusOr<std::unique_ptr<TierExchange>> Create(const ExpertLayout& layout,
                                                              const Options& options, Tier& vram,
                                                              Tier& ram, const Clock& clock);

  const HostBuffer& staging() const { return staging_.host(); }
  LinkEstimates& estimates() { return estimates_; }
  const LinkEstimates& estimates() const { return estimates_; }
  const ExpertMover& mover() const { return mover_; }

  // Claims a VRAM slot with room, and a staging buffer to read the expert into; slot -1 when one of
  // them is not to be had. The slot is Loading and kept, or see BeginStagingOnHint.
  struct Staging {
    int32_t slot = -1;
    std::byte* target = nullptr;
  };
  Staging BeginStaging(ExpertKey key);
  // As BeginStaging, for an expert that nobody waits for: half of the buffers are left to those
  // that somebody does, and the slot is not kept.
  Staging BeginStagingOnHint(ExpertKey key);
  // The read is in: copies it on; the slot is Ready. Or it failed: the slot is Empty.
  void EndStaging(int32_t slot, bool is_read);

  // Copies an expert whose RAM slot is kept to VRAM: as a promotion, else into transit. Returns the
  // VRAM slot, Ready and kept, and lets go of the RAM slot; -1, and nothing changes, when no slot
  // is Empty or too many copies are under way.
  int32_t CopyToDevice(ExpertKey key);

  // Every use of an expert, before it is placed.
  void Used(ExpertKey key) { promotion_.Used(key); }
  // Whether a promotion would be granted now.
  bool IsWorthKeeping(ExpertKey key);
  // The host computes the expert; if it is worth it, it is promoted when the links are idle.
  void Offer(ExpertKey key);

  // Takes note of copies that have ended and, when none is under way, promotes an expert that was
  // offered. The device's error.
  absl::Status Poll();
  // Blocks until the oldest copy has ended, then as Poll. Requires is_busy.
  absl::Status AwaitOne();
  bool is_busy() const { return mover_.is_busy(); }
  void NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns);
  // Blocks until the device touches none of our memory any more, whatever else it says.
  void Abandon() { mover_.Abandon(); }

 private:
  TierExchange(const ExpertLayout& layout, const Options& options, Tier& vram, Tier& ram,
               const Clock& clock);
  Staging Stage(ExpertKey key, Arrival arrival);
  int32_t ClaimPromotion(ExpertKey key, int32_t& victim);
  int32_t Promote(ExpertKey key, int32_t from);
  int32_t Pass(ExpertKey key, int32_t from);
  void PromoteOffered();
  void Ended(const ExpertMover::Move& move);
  void EndPromotion(const ExpertMover::Move& move);
  std::byte* StagingData(int index) const;
  void Tell(ResidencyChange change, ExpertKey key) const;

  const ExpertLayout& layout_;
  Tier& vram_;
  Tier& ram_;
  ResidencyObserver* const residency_;
  SlotArena staging_;
  std::array<int32_t, kStagingSlots> staged_slots_;  // by buffer: for which VRAM slot; -1: free
  LinkEstimates estimates_;
  ExpertMover mover_;
  PromotionRule promotion_;
  BoundedQueue<ExpertKey> offered_;
  int exchange_count_ = 0;  // promotions with a victim that has not arrived in RAM
};

}  // namespace stoker
