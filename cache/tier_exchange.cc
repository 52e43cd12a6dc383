// Promotions, demotions, transit and staging.
#include "cache/tier_exchange.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {

using Kind = ExpertMover::Kind;

TierExchange::TierExchange(const ExpertLayout& layout, const Options& options, Tier& vram,
                           Tier& ram, const Clock& clock)
    : layout_(layout),
      vram_(vram),
      ram_(ram),
      residency_(options.residency),
      estimates_(options.rates),
      mover_(*options.device, clock, estimates_),
      promotion_(layout.key_count()),
      offered_(kCandidatesMax) {
  staged_slots_.fill(-1);
}

absl::StatusOr<std::unique_ptr<TierExchange>> TierExchange::Create(const ExpertLayout& layout,
                                                                   const Options& options,
                                                                   Tier& vram, Tier& ram,
                                                                   const Clock& clock) {
  std::unique_ptr<TierExchange> exchange(new TierExchange(layout, options, vram, ram, clock));
  ASSIGN_OR_RETURN(exchange->staging_,
                   SlotArena::Create(options.staging_bytes,
                                     {.kind = options.staging_kind, .device = options.device}));
  return exchange;
}

std::byte* TierExchange::StagingData(int index) const {
  return staging_.data() + layout_.classes().front().slot_bytes * static_cast<uint64_t>(index);
}

TierExchange::Staging TierExchange::BeginStaging(ExpertKey key) {
  return Stage(key, Arrival::kDemand);
}

TierExchange::Staging TierExchange::BeginStagingOnHint(ExpertKey key) {
  if (std::count(staged_slots_.begin(), staged_slots_.end(), -1) <= kStagingSlots / 2) return {};
  const Staging staging = Stage(key, Arrival::kHint);
  if (staging.slot >= 0) vram_.Unkeep(staging.slot);
  return staging;
}

TierExchange::Staging TierExchange::Stage(ExpertKey key, Arrival arrival) {
  const auto free = std::find(staged_slots_.begin(), staged_slots_.end(), -1);
  if (free == staged_slots_.end()) return {};
  if (!vram_.HasRoom(key)) return {};
  const int32_t slot = vram_.ClaimEmpty(key, arrival);
  *free = slot;
  return {.slot = slot, .target = StagingData(static_cast<int>(free - staged_slots_.begin()))};
}

void TierExchange::EndStaging(int32_t slot, bool is_read) {
  const auto at = std::find(staged_slots_.begin(), staged_slots_.end(), slot);
  CHECK(at != staged_slots_.end());
  if (!is_read) {
    *at = -1;
    vram_.Failed(slot);
    return;
  }
  const int index = static_cast<int>(at - staged_slots_.begin());
  const ExpertKey key = vram_.key_in(slot);
  const DeviceEvent ready = mover_.Start({.kind = Kind::kStage,
                                          .key = key,
                                          .source = index,
                                          .target = slot,
                                          .bytes = layout_.layer_of(key).slot_bytes,
                                          .to = vram_.pool().data(slot),
                                          .from = StagingData(index)});
  vram_.ArrivesWith(slot, ready);
}

int32_t TierExchange::CopyToDevice(ExpertKey key) {
  // What is being staged must find its place among the copies.
  if (mover_.in_count() + kStagingSlots >= ExpertMover::kMovesMax) return -1;
  const int32_t from = ram_.Find(key);
  // A slot that the caller still holds from an earlier request cannot be given up; a visitor has
  // no place that it could leave to a victim.
  const bool may_leave = ram_.pool().state(from) == SlotState::kReady && !ram_.is_visitor(from);
  int32_t slot = may_leave ? Promote(key, from) : -1;
  if (slot < 0) slot = Pass(key, from);
  if (slot >= 0) ram_.Unkeep(from);
  return slot;
}

int32_t TierExchange::Promote(ExpertKey key, int32_t from) {
  int32_t victim = -1;
  const int32_t slot = ClaimPromotion(key, victim);
  if (slot < 0) return -1;
  if (victim >= 0) ++exchange_count_;
  const DeviceEvent ready = mover_.Start({.kind = Kind::kPromote,
                                          .key = key,
                                          .source = from,
                                          .target = slot,
                                          .victim = victim,
                                          .bytes = layout_.layer_of(key).slot_bytes,
                                          .to = vram_.pool().data(slot),
                                          .from = ram_.pool().data(from)});
  vram_.ArrivesWith(slot, ready);
  vram_.BeginMove(slot);
  ram_.BeginMove(from);
  Tell(ResidencyChange::kPromoted, key);
  return slot;
}

int32_t TierExchange::ClaimPromotion(ExpertKey key, int32_t& victim) {
  const int size_class = layout_.layer_of(key).size_class;
  if (!vram_.pool().has_empty(size_class)) return -1;
  if (!vram_.HasRoom(key)) {
    const ExpertKey resident = vram_.Victim(key);
    if (resident < 0 || !promotion_.Admits(key, resident)) return -1;
    if (exchange_count_ == ExpertMover::kMovesMax) return -1;
    victim = vram_.Find(resident);
    vram_.BeginLeave(victim);
  }
  return vram_.ClaimEmpty(key);
}

int32_t TierExchange::Pass(ExpertKey key, int32_t from) {
  const int32_t slot = vram_.ClaimTransit(key);
  if (slot < 0) return -1;
  const DeviceEvent ready = mover_.Start({.kind = Kind::kPass,
                                          .key = key,
                                          .source = from,
                                          .target = slot,
                                          .bytes = layout_.layer_of(key).slot_bytes,
                                          .to = vram_.pool().data(slot),
                                          .from = ram_.pool().data(from)});
  vram_.ArrivesWith(slot, ready);
  ram_.BeginMove(from);
  return slot;
}

bool TierExchange::IsWorthKeeping(ExpertKey key) {
  if (vram_.HasRoom(key)) return true;
  const ExpertKey resident = vram_.Victim(key);
  return resident >= 0 && promotion_.Admits(key, resident);
}

void TierExchange::Offer(ExpertKey key) {
  if (offered_.count() < kCandidatesMax) offered_.Push(key);
}

// One at a time, so that a request finds the link free or nearly so. Whether an offered expert is
// still where it was, and still worth it, is looked at now.
void TierExchange::PromoteOffered() {
  while (!offered_.empty()) {
    const ExpertKey key = offered_.Pop();
    const int32_t from = ram_.Find(key);
    if (from < 0 || vram_.Find(key) >= 0 || !ram_.IsIdle(from)) continue;
    const int32_t slot = Promote(key, from);
    if (slot < 0) continue;
    vram_.Unkeep(slot);
    return;
  }
}

absl::Status TierExchange::Poll() {
  RETURN_IF_ERROR(mover_.Poll([this](const ExpertMover::Move& move) { Ended(move); }));
  if (!mover_.is_busy()) PromoteOffered();
  return absl::OkStatus();
}

absl::Status TierExchange::AwaitOne() {
  return mover_.AwaitOne([this](const ExpertMover::Move& move) { Ended(move); });
}

void TierExchange::NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) {
  mover_.NoteHostBusy(ns);
  estimates_.NoteHost(bytes, row_bytes, ns, mover_.WasCopyingIn(ns));
}

void TierExchange::Ended(const ExpertMover::Move& move) {
  switch (move.kind) {
    case Kind::kStage:
      staged_slots_[move.source] = -1;
      return;
    case Kind::kPass:
      ram_.EndMove(move.source);
      return;
    case Kind::kPromote:
      EndPromotion(move);
      return;
    case Kind::kDemote:
      --exchange_count_;
      ram_.Arrived(move.target);
      ram_.Unkeep(move.target);
      vram_.EndLeave(move.source);
      Tell(ResidencyChange::kDemoted, move.key);
      return;
  }
}

void TierExchange::Tell(ResidencyChange change, ExpertKey key) const {
  if (residency_ == nullptr) return;
  residency_->OnResidency(change, layout_.id(key), layout_.layer_of(key).slot_bytes);
}

// The promoted expert's slot in RAM is what its victim gets. The victim's own copy came in before
// that of the promoted one, which has ended.
void TierExchange::EndPromotion(const ExpertMover::Move& move) {
  vram_.EndMove(move.target);
  ram_.EndMove(move.source);
  CHECK(ram_.IsIdle(move.source));
  ram_.Evict(move.source);
  if (move.victim < 0) return;
  const ExpertKey victim = vram_.key_in(move.victim);
  const int32_t target = ram_.ClaimEmpty(victim);
  CHECK(target >= 0);
  mover_.Start({.kind = Kind::kDemote,
                .key = victim,
                .source = move.victim,
                .target = target,
                .bytes = layout_.layer_of(victim).slot_bytes,
                .to = ram_.pool().data(target),
                .from = vram_.pool().data(move.victim)});
}

}  // namespace stoker
