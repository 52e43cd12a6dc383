// The expert store: which expert is where, and holding it there.
//
// Tiers, fastest first; today one, host RAM. An expert sits in one slot of its size class; slots
// are carved once from one arena per tier. Slot states, each transition one function that asserts
// its start:
//
//     Empty --Claim--> Loading --Arrived--> Ready --Pin--> Pinned(n) --Unpin--> Ready --Evict-->
//     Empty
//                         \--Failed--> Empty
//
// The file is the truth: nothing is ever written back. Reads go through a BlockReader as aligned
// supersets straight into the slot. Short reads resume; EINTR, EAGAIN and EIO are retried
// kReadAttemptsMax times; then the request, not the process, fails. The XXH3 of each expert is kept
// from its first read and compared at every later one, and each file's identity is compared when an
// expert of it arrives: a file that shrank, changed or rotted is DataLoss naming file, layer and
// expert.
//
// Per-layer floor: a class never evicts a layer below min(its residents, floor) for the sake of
// another layer, unless steps do not come by it any more (LayerRounds), so a cache smaller than one
// token's cycle still keeps something of each layer. The floor is at most what leaves pins_min
// slots to any one layer. Unless told otherwise it is the lesser of that, of slots / layers (an
// even split) and of half a layer's experts. The even split gave more hits than any smaller floor
// on recorded routings of three models, for lru and lfu, by 1 to 8 points while up to half of the
// experts were resident, and lost 0.5 to 0.9 above: hence the half.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/expert_catalog.h"
#include "base/time_ledger.h"
#include "cache/expert_provider.h"
#include "cache/placement.h"
#include "cache/policy.h"
#include "cache/residency_observer.h"
#include "device/buffer.h"
#include "io/block_reader.h"

namespace stoker {

enum class TierKind : uint8_t { kVram, kRam };

struct TierOptions {
  TierKind kind = TierKind::kRam;
  uint64_t budget_bytes =
      0;  // for slots; everything else the store takes is in CachePlan::overhead_bytes
  std::string policy = "lru";        // as ChoosePolicy
  std::string admission = "always";  // as ChooseAdmission; in VRAM promotion is the admission
};

struct CacheOptions {
  std::vector<TierOptions> tiers;  // fastest first
  Device* device = nullptr;        // of the VRAM tier; must outlive the store
  PlaceRule place = PlaceRule::kAuto;
  LinkRates rates;  // what kAuto starts from; live estimates follow
  int layer_floor =
      -1;  // experts per layer kept from other layers; -1: chosen from the slots there are
  bool verify_hashes = true;
  // For replays, without hashes, over a reader that writes nothing and a device that copies
  // nothing: slots have addresses and no memory.
  bool addresses_only = false;
  std::vector<Setting> settings;           // of policies and admissions
  std::vector<uint32_t> profile;           // uses by key, of earlier runs; empty: none known
  ResidencyObserver* residency = nullptr;  // may be null; must outlive the store
  int hint_loads_max = 0;  // experts read on guesses at once; 0: the store takes no guesses
  std::vector<std::string> file_names;  // by file number, for messages; may be left empty
};

// Slots of one size, computed before anything is taken.
struct SlotClass {
  uint64_t expert_bytes = 0;  // of the experts it holds
  uint64_t slot_bytes = 0;    // with room for aligned supersets
  int64_t expert_count = 0;   // experts of this class in the model
  int64_t slot_count = 0;
  // VRAM: of these, set aside for experts that pass through: copied to be computed once, or on
  // their way in while another is on its way out.
  int64_t transit_count = 0;
};
struct CachePlan {
  std::vector<SlotClass> classes;       // of the RAM tier
  uint64_t arena_bytes = 0;             // sum of its slots; with staging_bytes at most the budget
  std::vector<SlotClass> vram_classes;  // of the VRAM tier; empty without a device
  uint64_t vram_bytes = 0;              // sum of its slots
  uint64_t staging_bytes = 0;           // pinned ring between the drive and VRAM, of the RAM budget
  uint64_t overhead_bytes = 0;          // tables beside the arena
  // Of the RAM budget, staging included, given the VRAM: the least that a run can do with, and what
  // makes every expert resident in one tier or the other.
  uint64_t minimum_budget_bytes = 0;
  uint64_t full_budget_bytes = 0;
  int pins_min = 1;  // slots that each class has at least; as planned
};
// Slots of the staging ring, each of the largest class: whole experts keep a drive busy at a depth
// of 1 to 4.
inline constexpr int kStagingSlots = 4;
// Slots of a VRAM class set aside for transit: an eighth, at least one, at most as many experts as
// a token uses.
inline constexpr int kTransitSlotsMax = 8;
// What the store may take: for slots and staging in RAM, for slots in VRAM.
struct CacheBudget {
  uint64_t ram_bytes = 0;
  uint64_t vram_bytes = 0;
  bool has_device = false;
};
// Splits a budget over the size classes: VRAM the same share of each class's experts, RAM the same
// share of those that VRAM has no slot for, so that both together hold each expert at most once.
// `alignments`: of each file, indexed like the catalog's file numbers. `pins_min`: slots that each
// class must have in RAM (the experts of one token). ResourceExhausted, naming the minimum, when
// the RAM budget is too small; VRAM may be anything down to nothing.
absl::StatusOr<CachePlan> PlanCache(const ExpertCatalog& catalog, const CacheBudget& budget,
                                    int pins_min, absl::Span<const size_t> alignments);

// The plan with these slots by class in place of its own: those of a recorded run. `vram_slots` is
// empty for a plan without VRAM.
CachePlan WithSlots(CachePlan plan, absl::Span<const int64_t> slots,
                    absl::Span<const int64_t> vram_slots);

// Why an expert that a step needed was not there.
enum class MissReason : uint8_t {
  kNeverSeen,
  kEvicted,
  kHintLate,     // guessed, and still being read
  kHintDropped,  // guessed, and given up before it was read; in this step
};

struct MissRecord {
  ExpertId id = {};
  MissReason reason = MissReason::kNeverSeen;
  int64_t evicted_step = -1;  // the step in which it was evicted last
  int64_t read_ns = 0;        // from submission to arrival; of a late hint: from being asked for
  uint64_t read_bytes = 0;
};

// What came of guesses since the start, in experts. Reads begun are used, late, dropped, wasted, or
// not decided yet: being read, or resident and not asked for.
struct HintCounts {
  uint64_t issued = 0;        // reads begun
  uint64_t used = 0;          // brought before a step asked for them
  uint64_t late = 0;          // still being read when a step asked for them
  uint64_t dropped = 0;       // given up while being read, or failed
  uint64_t wasted = 0;        // brought, and evicted without having been asked for
  uint64_t unread = 0;        // guessed right, but not begun when a step asked for them
  uint64_t issued_bytes = 0;  // of the experts
  uint64_t used_bytes = 0;    // of the experts
  uint64_t late_bytes = 0;    // of the experts
  uint64_t wasted_bytes = 0;  // of the experts wasted, and what was read of those dropped
  uint64_t saved_bytes = 0;   // that no step had to wait for: of those used, and those late in part
  uint64_t delay_bytes = 0;   // read on guesses while a step waited for other reads
  // Of experts that a step asked for and that had gone for a guess which nobody had asked for: what
  // is read once more for the guess's sake. Counted with the layer that was guessed.
  uint64_t displaced_bytes = 0;

  // Of the experts that were guessed right and not resident, the share that came in time; 0 when
  // there were none.
  double on_time_share() const {
    const uint64_t right = used + late + unread;
    return right > 0 ? static_cast<double>(used) / static_cast<double>(right) : 0;
  }
};

HintCounts operator+(const HintCounts& a, const HintCounts& b);
HintCounts operator-(const HintCounts& a, const HintCounts& b);  // each count of b is at most a's

// Counts since the start; hits + misses = experts requested. One that arrived on a guess before it
// was asked for is a hit, one that was late is a miss.
struct CacheCounts {
  uint64_t hits = 0;
  uint64_t vram_hits = 0;  // of these, in VRAM when asked for
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t read_bytes = 0;        // from files, supersets included
  uint64_t retries = 0;           // short reads resumed and transient errors retried
  int64_t wait_ns = 0;            // Collect blocked with nothing to hand over
  int64_t busy_ns = 0;            // at least one read was under way
  int64_t resident = 0;           // experts in memory now
  int64_t vram_resident = 0;      // of these, in VRAM
  uint64_t copied_in_bytes = 0;   // RAM to VRAM
  uint64_t copied_out_bytes = 0;  // VRAM to RAM
  uint64_t host_experts = 0;      // handed out for the host to compute
  uint64_t device_experts = 0;    // for the device
  int64_t copy_wait_ns = 0;       // Collect blocked for copies only
  HintCounts hints;
  HintCounts warm;  // the same, of what a warm start read
};

class ExpertCache final : public ExpertProvider {
 public:
  static constexpr int kReadAttemptsMax = 4;
  static constexpr int kGuessMax = 64;  // experts of a guess that are heeded

  // Takes the arena. `reader` has the catalog's files added already, and is used by this object
  // alone from here on. `ledger` (may be null) is switched to kWaitDrive while Collect blocks.
  static absl::StatusOr<std::unique_ptr<ExpertCache>> Create(
      const ExpertCatalog& catalog, const CachePlan& plan, const CacheOptions& options,
      BlockReader& reader, const Clock& clock, TimeLedger* ledger);
  ~ExpertCache() override;

  int pins_max(int layer) const override;
  using ExpertProvider::Request;
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override;
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override;
  int outstanding() const override;
  void NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) override;
  // A layer is resident once all of its experts are in VRAM and every expert of its class has a
  // slot there.
  ResidentLayer Resident(int layer) override;
  void NoteUses(int layer, absl::Span<const int32_t> experts,
                absl::Span<const int32_t> rows) override;

  // Guesses what a layer will be asked for next, best first, distinct; see ExpertHints. Replaces
  // the layer's earlier guess. Reads begin once no demand is outstanding, in Request, Collect and
  // IssueHints. Without hint_loads_max a guess is passed over.
  void Guess(int layer, absl::Span<const int32_t> experts);
  void WithdrawGuesses();
  // Experts to fill Empty slots with, best first, behind all guesses and as they are read; nobody
  // has to go for them. Those of ExpertsThatFit(kVram) go to VRAM, others to RAM. Requires
  // hint_loads_max.
  void Warm(absl::Span<const ExpertKey> order);
  // By layer, the experts of the size classes that have a slot for each of theirs: in VRAM; or,
  // kRam, in VRAM and RAM together.
  std::vector<ExpertKey> ExpertsThatFit(TierKind kind) const;
  // Looks at the drive, and has it read what was guessed if it is idle.
  void IssueHints();
  // By layer of the catalog; empty when the store takes no guesses.
  absl::Span<const HintCounts> hint_counts() const;
  // What taking guesses adds to CachePlan::overhead_bytes.
  static uint64_t HintTableBytes(const ExpertCatalog& catalog);

  // Marks the border between steps: misses are recorded per step, and experts are placed by the
  // rates as they were estimated here, so that a record of them says what was chosen and why.
  void BeginStep(int64_t step);
  // Misses of the running step, in order of arrival; valid until the next BeginStep. Bounded: the
  // slowest are kept.
  absl::Span<const MissRecord> misses() const;

  const CacheCounts& counts() const;
  const HostBuffer& arena() const;  // of RAM
  // As they are estimated now; as given when there is nothing to estimate by.
  const LinkRates& rates() const;
  void Report(CounterVisitor& visitor) const;

 protected:
  void Unpin(int32_t slot) override;
  void UnpinAfter(int32_t slot, DeviceEvent event) override;

 private:
  struct State;
  void ReportVram(CounterVisitor& visitor) const;
  void ReportHints(CounterVisitor& visitor) const;
  explicit ExpertCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace stoker
