// Guesses of what layers will be asked for: whom they keep from eviction, and what they read ahead.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "cache/expert_cache.h"
#include "cache/expert_layout.h"
#include "cache/expert_loader.h"
#include "cache/tier.h"
#include "cache/tier_exchange.h"

namespace stoker {

// A guess names experts of one layer, best first, and stands until the layer has been asked for,
// another guess replaces it, or it is withdrawn. Meanwhile
//
// - those of its experts that are in RAM are guarded: they give way only where nobody else may;
// - those that are nowhere are read as hints, behind all demand: layers in the order in which they
//   will be asked for, best first, `loads_max` at a time. Each takes an Empty slot of RAM, or that
//   of a resident that was not used in the running step, is not guarded and is not needed for its
//   layer's floor; and is guarded from then on.
//
// Guards are bounded to a share of each class's slots, so that most of them stay the policy's to
// rule. A load whose guess is gone is given up, as far as the drive has not begun it. One that a
// step asks for becomes demand. One that fails is forgotten: nobody was promised anything. No guess
// brings anything into VRAM.
//
// Behind all guesses, the experts of a warm start are read, in the order given, into Empty slots
// alone: nobody is guarded or has to go for them. Where VRAM has a slot for every expert of a class
// they go there, by way of the staging ring, and those that are in RAM already are promoted;
// everything else goes to RAM. They are counted apart.
//
// One thread; allocates nothing after creation and Warm.
class ExpertHints {
 public:
  // Slots of a class that guesses may hold: one in so many. Where the slots hold what four tokens
  // use, that is what one token uses.
  static constexpr int64_t kGuardShare = 4;

  // Told of an expert that leaves the store because a guess brings in another.
  using Evicted = absl::FunctionRef<void(ExpertKey)>;

  // `tiers` fastest first, the last is the one that files are read into; `exchange` is null without
  // VRAM. All that is passed, but for what is null, must outlive this. The clock is for counts
  // alone: nothing is decided by it.
  ExpertHints(const ExpertLayout& layout, int loads_max, absl::Span<Tier> tiers,
              TierExchange* exchange, ExpertLoader& loader, const Clock& clock,
              ResidencyObserver* residency);
  // What the tables take, rounded up.
  static uint64_t PlanBytes(const ExpertCatalog& catalog);

  // By key, not 0: guarded.
  absl::Span<const uint8_t> guards() const { return guards_; }

  // A warm start that left something out begins another round.
  void BeginStep(int64_t step);
  // The guess of a layer, ExpertCache::kGuessMax experts at most; replaces an earlier one. Reads
  // nothing yet.
  void Guess(int layer_index, absl::Span<const int32_t> experts);
  void WithdrawAll();
  // Experts to be read while there is room, best first; replaces those of an earlier call.
  void Warm(absl::Span<const ExpertKey> order);
  // The layer is asked for, so its guess has served.
  void Asked(int layer_index, absl::Span<const int32_t> experts);
  // Of an expert that Asked named and that is being read on a guess: it is demand now.
  void Join(ExpertKey key);
  // Why a step missed an expert that has now been read, or could not be.
  MissReason EndMiss(ExpertKey key, int64_t evicted_step);
  // A step reads from files now, and the oldest load of a guess may be in its way.
  void NoteDelay();
  // Begins to read what is guessed. Only while no demand is under way.
  void Issue(Evicted evicted);
  void CancelLoads();
  // A load that was not joined has ended; whether its expert is resident now.
  bool Ended(const ExpertLoader::Outcome& outcome);
  // An expert left the store.
  void Left(ExpertKey key);

  bool is_loading() const { return !loading_.empty(); }
  int loading_count() const { return static_cast<int>(loading_.size()); }
  bool has_more() const {
    return (pending_count_ > 0 || warm_next_ < warm_.size()) && loading_count() < loads_max_;
  }
  const HintCounts& total() const { return total_; }  // without those of the warm start
  const HintCounts& warm_total() const { return warm_total_; }
  absl::Span<const HintCounts> counts() const { return counts_; }  // by layer index
  // Experts that guesses brought, resident and not asked for yet.
  int64_t unused_count() const { return unused_count_; }

 private:
  enum class Stage : uint8_t { kNone, kLoading, kLate, kBrought };
  struct Entry {
    int64_t used_step = -1;
    int64_t begun_ns = 0;   // its load on a guess
    int64_t asked_ns = -1;  // when a step asked for it, or for what came behind it, meanwhile
    int64_t dropped_step = -1;
    uint32_t mark = 0;
    Stage stage = Stage::kNone;
    bool is_warm = false;  // of the warm start; says nothing at Stage::kNone
    // Between a guess and who went for it, while neither has been asked for; -1: nobody.
    ExpertKey displaced = -1;
    ExpertKey displaced_by = -1;
  };
  struct Guesses {
    int count = 0;
    int next = 0;  // to be read
    std::array<ExpertKey, ExpertCache::kGuessMax> keys;
  };

  Tier& landing() { return tiers_.back(); }
  bool IsInVram(int32_t slot) { return slot < landing().pool().first_slot(); }
  int32_t LoadingSlot(ExpertKey key);
  bool IsHere(ExpertKey key) const;
  bool TryGuard(ExpertKey key);
  void Unguard(ExpertKey key);
  void Withdraw(ExpertKey key);
  void Clear(Guesses& guesses);
  void Mark(int layer_index, absl::Span<const int32_t> experts);
  void Displace(ExpertKey guess, ExpertKey evicted);
  void EndDisplacement(ExpertKey guess);
  void CountIfDisplaced(ExpertKey key);
  ExpertKey TakeNext();
  bool Load(ExpertKey key, Evicted evicted);
  bool LoadNextWarm();
  TierExchange::Staging ClaimWarm(ExpertKey key);
  void Begin(int32_t slot, ExpertKey key, std::byte* target, bool is_warm);
  void RemoveLoading(ExpertKey key);
  uint64_t EndRead(const Entry& entry, uint64_t bytes);
  void Tell(ResidencyChange change, ExpertKey key, uint64_t bytes);
  template <typename Change>
  void Count(ExpertKey key, Change change) {
    if (entries_[key].is_warm) {
      change(warm_total_);
      return;
    }
    change(counts_[layout_.layer_index_of(key)]);
    change(total_);
  }

  const ExpertLayout& layout_;
  const int loads_max_;
  const absl::Span<Tier> tiers_;
  TierExchange* const exchange_;
  ExpertLoader& loader_;
  const Clock& clock_;
  ResidencyObserver* const residency_;
  std::vector<Entry> entries_;      // by key
  std::vector<uint8_t> guards_;     // by key
  std::vector<int64_t> guard_max_;  // by class
  std::vector<int64_t> guarded_;    // by class
  std::vector<Guesses> guesses_;    // by layer index
  std::vector<ExpertKey> loading_;  // begun on a guess and not joined, in order
  std::vector<HintCounts> counts_;  // by layer index
  HintCounts total_;
  // An expert of the warm start whose read was dropped, or that was in RAM and is to be in VRAM, is
  // looked for again by going through the order once more in a later step; so often at most while
  // that brings nothing.
  static constexpr int kWarmRoundsMax = 8;
  std::vector<ExpertKey> warm_;
  size_t warm_next_ = 0;
  int warm_rounds_ = 0;
  bool is_warm_left_ = false;  // some of this round are not where they should be
  HintCounts warm_total_;
  static constexpr double kRateFade = 63.0 / 64;
  double read_ns_ = 0;  // of hints, fading sums
  double read_bytes_ = 0;
  int64_t ended_ns_ = 0;          // when the last load ended
  int64_t counted_until_ns_ = 0;  // when the one before it did
  double ahead_bytes_ = 0;        // of loads that ended then
  int64_t step_ = 0;
  int asked_ = 0;          // layer index asked for last
  int pending_count_ = 0;  // guesses with experts that have not been looked at
  int64_t unused_count_ = 0;
  uint32_t mark_ = 0;
};

}  // namespace stoker
