// Guards, loads on hints, and the account of what they were good for.
#include "cache/expert_hints.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace stoker {
namespace {

template <typename Combine>
HintCounts Combined(const HintCounts& a, const HintCounts& b, Combine combine) {
  return {.issued = combine(a.issued, b.issued),
          .used = combine(a.used, b.used),
          .late = combine(a.late, b.late),
          .dropped = combine(a.dropped, b.dropped),
          .wasted = combine(a.wasted, b.wasted),
          .unread = combine(a.unread, b.unread),
          .issued_bytes = combine(a.issued_bytes, b.issued_bytes),
          .used_bytes = combine(a.used_bytes, b.used_bytes),
          .late_bytes = combine(a.late_bytes, b.late_bytes),
          .wasted_bytes = combine(a.wasted_bytes, b.wasted_bytes),
          .saved_bytes = combine(a.saved_bytes, b.saved_bytes),
          .delay_bytes = combine(a.delay_bytes, b.delay_bytes),
          .displaced_bytes = combine(a.displaced_bytes, b.displaced_bytes)};
}

}  // namespace

HintCounts operator+(const HintCounts& a, const HintCounts& b) {
  return Combined(a, b, [](uint64_t x, uint64_t y) { return x + y; });
}

HintCounts operator-(const HintCounts& a, const HintCounts& b) {
  return Combined(a, b, [](uint64_t x, uint64_t y) { return x - y; });
}

ExpertHints::ExpertHints(const ExpertLayout& layout, int loads_max, absl::Span<Tier> tiers,
                         TierExchange* exchange, ExpertLoader& loader, const Clock& clock,
                         ResidencyObserver* residency)
    : layout_(layout),
      loads_max_(loads_max),
      tiers_(tiers),
      exchange_(exchange),
      loader_(loader),
      clock_(clock),
      residency_(residency),
      entries_(layout.key_count()),
      guards_(layout.key_count(), 0),
      guarded_(layout.classes().size(), 0),
      guesses_(layout.layers().size()),
      counts_(layout.layers().size()) {
  for (size_t c = 0; c < layout.classes().size(); ++c) {
    guard_max_.push_back(landing().pool().slot_count(static_cast<int>(c)) / kGuardShare);
  }
  loading_.reserve(static_cast<size_t>(loads_max));
}

uint64_t ExpertHints::PlanBytes(const ExpertCatalog& catalog) {
  constexpr uint64_t kFixedBytes = 4096;
  return kFixedBytes + static_cast<uint64_t>(catalog.expert_count()) * (sizeof(Entry) + 1) +
         catalog.layers.size() * (sizeof(Guesses) + sizeof(HintCounts) + 2 * sizeof(int64_t));
}

bool ExpertHints::IsHere(ExpertKey key) const {
  return std::any_of(tiers_.begin(), tiers_.end(),
                     [key](const Tier& tier) { return tier.Find(key) >= 0; });
}

// Of an expert that is being read.
int32_t ExpertHints::LoadingSlot(ExpertKey key) {
  const int32_t in_vram = tiers_.front().Find(key);
  return in_vram >= 0 ? in_vram : landing().Find(key);
}

bool ExpertHints::TryGuard(ExpertKey key) {
  const int size_class = layout_.layer_of(key).size_class;
  if (guarded_[size_class] >= guard_max_[size_class]) return false;
  CHECK(guards_[key] == 0);
  guards_[key] = 1;
  ++guarded_[size_class];
  return true;
}

void ExpertHints::Unguard(ExpertKey key) {
  if (guards_[key] == 0) return;
  guards_[key] = 0;
  --guarded_[layout_.layer_of(key).size_class];
}

// The guess that named the expert is gone.
void ExpertHints::Withdraw(ExpertKey key) {
  Unguard(key);
  if (entries_[key].stage == Stage::kLoading) loader_.Cancel(LoadingSlot(key));
}

void ExpertHints::Clear(Guesses& guesses) {
  if (guesses.next < guesses.count) --pending_count_;
  guesses.count = 0;
  guesses.next = 0;
}

void ExpertHints::Mark(int layer_index, absl::Span<const int32_t> experts) {
  const ExpertLayout::Layer& layer = layout_.layers()[layer_index];
  ++mark_;
  for (const int32_t expert : experts) {
    CHECK(expert >= 0 && expert < layer.expert_count);
    entries_[layer.first_key + expert].mark = mark_;
  }
}

void ExpertHints::Guess(int layer_index, absl::Span<const int32_t> experts) {
  const ExpertKey first_key = layout_.layers()[layer_index].first_key;
  experts = experts.subspan(0, ExpertCache::kGuessMax);
  Mark(layer_index, experts);
  Guesses& guesses = guesses_[layer_index];
  for (int i = 0; i < guesses.count; ++i) {
    if (entries_[guesses.keys[i]].mark != mark_) Withdraw(guesses.keys[i]);
  }
  Clear(guesses);
  for (const int32_t expert : experts) {
    const ExpertKey key = first_key + expert;
    guesses.keys[guesses.count++] = key;
    if (guards_[key] == 0 && landing().Find(key) >= 0) TryGuard(key);
  }
  if (guesses.count > 0) ++pending_count_;
}

void ExpertHints::WithdrawAll() {
  for (Guesses& guesses : guesses_) {
    for (int i = 0; i < guesses.count; ++i) Withdraw(guesses.keys[i]);
    Clear(guesses);
  }
}

void ExpertHints::Warm(absl::Span<const ExpertKey> order) {
  warm_.assign(order.begin(), order.end());
  warm_next_ = 0;
  warm_rounds_ = 1;
  is_warm_left_ = false;
}

void ExpertHints::BeginStep(int64_t step) {
  step_ = step;
  const bool is_round_over = warm_next_ == warm_.size() && is_warm_left_;
  if (!is_round_over || warm_rounds_ == kWarmRoundsMax) return;
  is_warm_left_ = false;
  warm_next_ = 0;
  ++warm_rounds_;
}

void ExpertHints::Asked(int layer_index, absl::Span<const int32_t> experts) {
  const ExpertLayout::Layer& layer = layout_.layers()[layer_index];
  asked_ = layer_index;
  Mark(layer_index, experts);
  for (const int32_t expert : experts) {
    const ExpertKey key = layer.first_key + expert;
    Entry& entry = entries_[key];
    entry.used_step = step_;
    CountIfDisplaced(key);
    EndDisplacement(key);
    if (entry.stage != Stage::kBrought) continue;
    entry.stage = Stage::kNone;
    --unused_count_;
    Count(key, [&](HintCounts& counts) {
      ++counts.used;
      counts.used_bytes += layer.expert_bytes;
      counts.saved_bytes += layer.expert_bytes;
    });
    Tell(ResidencyChange::kHintUsed, key, layer.expert_bytes);
  }
  Guesses& guesses = guesses_[layer_index];
  for (int i = 0; i < guesses.count; ++i) {
    const ExpertKey key = guesses.keys[i];
    if (entries_[key].mark != mark_) {
      Withdraw(key);
      continue;
    }
    Unguard(key);
    if (IsHere(key)) continue;
    entries_[key].dropped_step = step_;  // guessed right, and not even begun
    entries_[key].is_warm = false;
    Count(key, [](HintCounts& counts) { ++counts.unread; });
    Tell(ResidencyChange::kHintDropped, key, 0);
  }
  Clear(guesses);
}

void ExpertHints::Join(ExpertKey key) {
  Entry& entry = entries_[key];
  CHECK(entry.stage == Stage::kLoading);  // else the expert was asked for twice
  entry.stage = Stage::kLate;
  entry.asked_ns = clock_.NowNs();
  RemoveLoading(key);
  const uint64_t bytes = layout_.layer_of(key).expert_bytes;
  Count(key, [bytes](HintCounts& counts) {
    ++counts.late;
    counts.late_bytes += bytes;
  });
  Tell(ResidencyChange::kHintUsed, key, bytes);
  loader_.Promote(LoadingSlot(key));
}

MissReason ExpertHints::EndMiss(ExpertKey key, int64_t evicted_step) {
  Entry& entry = entries_[key];
  if (entry.stage == Stage::kLate) {
    entry.stage = Stage::kNone;
    const uint64_t bytes = layout_.layer_of(key).expert_bytes;
    const uint64_t saved_bytes = bytes - EndRead(entry, bytes);
    Count(key, [saved_bytes](HintCounts& counts) { counts.saved_bytes += saved_bytes; });
    return MissReason::kHintLate;
  }
  if (entry.dropped_step == step_) return MissReason::kHintDropped;
  return evicted_step < 0 ? MissReason::kNeverSeen : MissReason::kEvicted;
}

// What the drive has begun cannot be taken back.
void ExpertHints::NoteDelay() {
  for (const ExpertKey key : loading_) {
    if (entries_[key].asked_ns < 0) entries_[key].asked_ns = clock_.NowNs();
  }
}

// A load of so many bytes ends now. Returns how many of them came since a step asked.
//
// What came before is the time before, at the rate that hints are read at. The drive's time counts
// once, whether it reads one after another or all at once: that up to an earlier end is not this
// load's, and those that end together share it.
uint64_t ExpertHints::EndRead(const Entry& entry, uint64_t bytes) {
  const int64_t now_ns = clock_.NowNs();
  if (now_ns != ended_ns_) {
    counted_until_ns_ = std::exchange(ended_ns_, now_ns);
    ahead_bytes_ = 0;
    read_ns_ *= kRateFade;
    read_bytes_ *= kRateFade;
    read_ns_ += static_cast<double>(now_ns - std::max(entry.begun_ns, counted_until_ns_));
  }
  read_bytes_ += static_cast<double>(bytes);
  if (entry.asked_ns < 0 || read_ns_ == 0) return 0;
  const int64_t from_ns = std::max(entry.begun_ns, counted_until_ns_);
  const auto ahead_ns = static_cast<double>(std::max<int64_t>(0, entry.asked_ns - from_ns));
  const double ahead_bytes =
      std::clamp(ahead_ns * read_bytes_ / read_ns_ - ahead_bytes_, 0.0, static_cast<double>(bytes));
  ahead_bytes_ += ahead_bytes;
  return bytes - static_cast<uint64_t>(std::llround(ahead_bytes));
}

// A guess takes the place of another that nobody asked for: who went for that one is still gone.
void ExpertHints::Displace(ExpertKey guess, ExpertKey evicted) {
  EndDisplacement(guess);
  const ExpertKey before = std::exchange(entries_[evicted].displaced, -1);
  const bool is_unasked = entries_[evicted].stage == Stage::kBrought && !entries_[evicted].is_warm;
  const ExpertKey displaced = is_unasked ? before : evicted;
  if (displaced < 0) return;
  const ExpertKey earlier = entries_[displaced].displaced_by;
  if (earlier >= 0) entries_[earlier].displaced = -1;
  entries_[guess].displaced = displaced;
  entries_[displaced].displaced_by = guess;
}

// Somebody asked for the guess, or wanted its slot, who else would have taken it from the other.
void ExpertHints::EndDisplacement(ExpertKey guess) {
  const ExpertKey displaced = std::exchange(entries_[guess].displaced, -1);
  if (displaced >= 0) entries_[displaced].displaced_by = -1;
}

void ExpertHints::CountIfDisplaced(ExpertKey key) {
  const ExpertKey guess = entries_[key].displaced_by;
  if (guess < 0) return;
  EndDisplacement(guess);
  const uint64_t bytes = layout_.layer_of(key).expert_bytes;
  Count(guess, [bytes](HintCounts& counts) { counts.displaced_bytes += bytes; });
}

// The best guess of the layer that is asked for next; -1 when there is none that may be read.
ExpertKey ExpertHints::TakeNext() {
  const int layer_count = static_cast<int>(guesses_.size());
  for (int distance = 1; distance <= layer_count && pending_count_ > 0; ++distance) {
    const int layer_index = (asked_ + distance) % layer_count;
    const int size_class = layout_.layers()[layer_index].size_class;
    Guesses& guesses = guesses_[layer_index];
    while (guesses.next < guesses.count) {
      const ExpertKey key = guesses.keys[guesses.next];
      if (!IsHere(key) && guarded_[size_class] >= guard_max_[size_class]) break;
      if (++guesses.next == guesses.count) --pending_count_;
      if (!IsHere(key)) return key;
    }
  }
  return -1;
}

bool ExpertHints::Load(ExpertKey key, Evicted evicted) {
  // Nobody is evicted while demand has VRAM to fill.
  const bool has_room = tiers_.size() > 1 && tiers_.front().HasRoom(key);
  if (has_room && !landing().HasRoom(key)) return false;
  const Tier::Claimed claimed = landing().ClaimOnHint(key, [this](ExpertKey resident) {
    return guards_[resident] == 0 && entries_[resident].used_step != step_;
  });
  if (claimed.evicted >= 0) {
    Displace(key, claimed.evicted);
    evicted(claimed.evicted);
  }
  if (claimed.slot < 0) return false;
  // It may be guarded: as one that was here when guessed, but was not admitted to stay.
  CHECK(guards_[key] != 0 || TryGuard(key));
  Begin(claimed.slot, key, landing().pool().data(claimed.slot), /*is_warm=*/false);
  return true;
}

// Begins to read the next of the warm start for which there is room; false when there is none now.
bool ExpertHints::LoadNextWarm() {
  for (; warm_next_ < warm_.size(); ++warm_next_) {
    const ExpertKey key = warm_[warm_next_];
    const bool is_for_vram =
        exchange_ != nullptr && tiers_.front().HasSlotForEach(layout_.layer_of(key).size_class);
    TierExchange::Staging place;
    if (!IsHere(key)) {
      if (!is_for_vram && !landing().HasRoom(key)) continue;
      place = is_for_vram ? exchange_->BeginStagingOnHint(key) : ClaimWarm(key);
      if (place.slot < 0) return false;
      Begin(place.slot, key, place.target, /*is_warm=*/true);
      ++warm_next_;
      return true;
    }
    if (!is_for_vram || tiers_.front().Find(key) >= 0) continue;
    exchange_->Offer(key);
    is_warm_left_ = true;
  }
  return false;
}

TierExchange::Staging ExpertHints::ClaimWarm(ExpertKey key) {
  const int32_t slot = landing().ClaimOnHint(key, [](ExpertKey) { return false; }).slot;
  return {.slot = slot, .target = slot < 0 ? nullptr : landing().pool().data(slot)};
}

void ExpertHints::Begin(int32_t slot, ExpertKey key, std::byte* target, bool is_warm) {
  entries_[key].stage = Stage::kLoading;
  entries_[key].is_warm = is_warm;
  entries_[key].begun_ns = clock_.NowNs();
  entries_[key].asked_ns = -1;
  loading_.push_back(key);
  const uint64_t bytes = layout_.layer_of(key).expert_bytes;
  Count(key, [bytes](HintCounts& counts) {
    ++counts.issued;
    counts.issued_bytes += bytes;
  });
  loader_.Start(slot, key, target, ReadPriority::kHint);
}

void ExpertHints::Issue(Evicted evicted) {
  bool is_started = false;
  while (has_more()) {
    const ExpertKey key = TakeNext();
    const bool is_begun = key >= 0 ? Load(key, evicted) : LoadNextWarm();
    is_started |= is_begun;
    if (key < 0 && !is_begun) break;
  }
  if (is_started) loader_.Kick();
}

void ExpertHints::CancelLoads() {
  for (const ExpertKey key : loading_) loader_.Cancel(LoadingSlot(key));
}

void ExpertHints::RemoveLoading(ExpertKey key) {
  loading_.erase(std::find(loading_.begin(), loading_.end(), key));
}

bool ExpertHints::Ended(const ExpertLoader::Outcome& outcome) {
  const ExpertKey key = outcome.key;
  CHECK(entries_[key].stage == Stage::kLoading);
  RemoveLoading(key);
  const uint64_t delay_bytes = EndRead(entries_[key], outcome.read_bytes);
  Count(key, [delay_bytes](HintCounts& counts) { counts.delay_bytes += delay_bytes; });
  const bool is_staged = IsInVram(outcome.slot);
  if (is_staged) exchange_->EndStaging(outcome.slot, outcome.status.ok());
  if (outcome.status.ok()) {
    entries_[key].stage = Stage::kBrought;
    if (entries_[key].is_warm) warm_rounds_ = 0;
    ++unused_count_;
    if (!is_staged) landing().Arrived(outcome.slot);
    Tell(ResidencyChange::kReadOnHint, key, outcome.read_bytes);
    return true;
  }
  entries_[key].stage = Stage::kNone;
  entries_[key].dropped_step = step_;
  Unguard(key);
  if (!is_staged) landing().Failed(outcome.slot);
  Count(key, [&](HintCounts& counts) {
    ++counts.dropped;
    counts.wasted_bytes += outcome.read_bytes;
  });
  Tell(ResidencyChange::kHintDropped, key, outcome.read_bytes);
  is_warm_left_ |= entries_[key].is_warm;
  return false;
}

void ExpertHints::Left(ExpertKey key) {
  Unguard(key);
  EndDisplacement(key);
  if (entries_[key].stage != Stage::kBrought) return;
  entries_[key].stage = Stage::kNone;
  --unused_count_;
  const uint64_t bytes = layout_.layer_of(key).expert_bytes;
  Count(key, [bytes](HintCounts& counts) {
    ++counts.wasted;
    counts.wasted_bytes += bytes;
  });
  Tell(ResidencyChange::kHintWasted, key, bytes);
}

void ExpertHints::Tell(ResidencyChange change, ExpertKey key, uint64_t bytes) {
  if (residency_ != nullptr) residency_->OnResidency(change, layout_.id(key), bytes);
}

}  // namespace stoker
