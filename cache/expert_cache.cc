// The expert store over its tiers: requests, the rolling window, and what went wrong.
#include "cache/expert_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cache/bounded_queue.h"
#include "cache/expert_layout.h"
#include "cache/expert_loader.h"
#include "cache/miss_log.h"
#include "cache/tier.h"

namespace stoker {
namespace {

// Today's store has one tier; the code below walks the list.
absl::Status CheckTiers(const CacheOptions& options, const CachePlan& plan) {
  if (options.tiers.size() != 1 || options.tiers[0].kind != TierKind::kRam) {
    return absl::InvalidArgumentError(
        fmt::format("the expert store has one tier, RAM; {} were asked for", options.tiers.size()));
  }
  if (plan.arena_bytes > options.tiers[0].budget_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("the plan of the expert store takes {} bytes, its tier's budget is {}",
                    plan.arena_bytes, options.tiers[0].budget_bytes));
  }
  if (options.layer_floor < -1) {
    return absl::InvalidArgumentError(
        fmt::format("layer_floor is {}; it is a number of experts, or -1", options.layer_floor));
  }
  return absl::OkStatus();
}

}  // namespace

// Members of the running request are in one of four places: `waiting` (a miss without a slot),
// loading (its slot is kept), `ready` (its slot is kept), or handed over (no longer ours to count).
//
// Why the rolling window cannot get stuck. Say Collect is called with `waiting` not empty, nothing
// loading and nothing ready; the caller holds h < pins_max refs, for it must have room for one
// more. Nothing of the class is Empty, or it would have been claimed when it became so. No slot is
// kept: kept ones are loading or ready. So every slot of the class is Pinned, at most h of them; or
// Ready in another layer at its floor, at most floor * (layers - 1); or evictable. The first two
// are at most pins_max - 1 + floor * (layers - 1) = slots - 1 (Tier::pins_max). Hence one slot is
// evictable, and the first waiting miss would have taken it when it became so: in Request or at the
// last Unpin, the only moments at which a slot can turn evictable while a request runs.
struct ExpertCache::State {
  State(const ExpertCatalog& catalog, const BlockReader& reader, const Clock& wall,
        TimeLedger* time_ledger)
      : layout(catalog, FileAlignments(catalog, reader)),
        clock(wall),
        ledger(time_ledger),
        ready(layout.expert_count_max()),
        waiting(layout.expert_count_max()),
        evicted_step(layout.key_count(), -1) {}

  Tier& landing() { return tiers.back(); }  // the tier that files are read into
  Tier* TierWith(ExpertKey key);
  Tier& TierOf(int32_t slot);
  void ClaimWaiting();
  bool StartLoad(ExpertKey key);
  void Poll(BlockReader::Wait wait);
  void LoadEnded(const ExpertLoader::Outcome& outcome);
  void WaitForOne();
  absl::Status GiveUp();
  int outstanding() const {
    return static_cast<int>(ready.count() + waiting.count()) + loading_count;
  }

  const ExpertLayout layout;
  const Clock& clock;
  TimeLedger* const ledger;
  std::vector<Tier> tiers;  // fastest first
  std::unique_ptr<ExpertLoader> loader;

  BoundedQueue<int32_t> ready;      // slots, residents first
  BoundedQueue<ExpertKey> waiting;  // misses in the order asked
  int loading_count = 0;
  absl::Status failure;  // why the running request will fail

  int64_t step = 0;
  std::vector<int64_t> evicted_step;  // by key; -1: never
  MissLog misses;
  CacheCounts counts;
};

Tier* ExpertCache::State::TierWith(ExpertKey key) {
  for (Tier& tier : tiers) {
    if (tier.Find(key) >= 0) return &tier;
  }
  return nullptr;
}

Tier& ExpertCache::State::TierOf(int32_t slot) {
  for (Tier& tier : tiers) {
    if (slot < tier.pool().first_slot() + tier.pool().slot_count()) return tier;
  }
  CheckFailed(__FILE__, __LINE__, "the slot is of some tier");
}

// Claims in the order asked, so that who gets a slot does not depend on which read was faster.
void ExpertCache::State::ClaimWaiting() {
  bool is_started = false;
  while (!waiting.empty() && StartLoad(waiting.front())) {
    waiting.Pop();
    is_started = true;
  }
  if (is_started) loader->Kick();
}

bool ExpertCache::State::StartLoad(ExpertKey key) {
  const Tier::Claimed claimed = landing().Claim(key);
  if (claimed.evicted >= 0) {
    evicted_step[claimed.evicted] = step;
    ++counts.evictions;
    --counts.resident;
  }
  if (claimed.slot < 0) return false;
  ++loading_count;
  loader->Start(claimed.slot, key, landing().pool().data(claimed.slot));
  return true;
}

void ExpertCache::State::Poll(BlockReader::Wait wait) {
  loader->Poll(wait, [this](const ExpertLoader::Outcome& outcome) { LoadEnded(outcome); });
  counts.read_bytes = loader->read_bytes();
  counts.retries = loader->retries();
  counts.busy_ns = loader->busy_ns();
}

void ExpertCache::State::LoadEnded(const ExpertLoader::Outcome& outcome) {
  --loading_count;
  Tier& tier = TierOf(outcome.slot);
  if (!outcome.status.ok()) {
    tier.Failed(outcome.slot);
    if (failure.ok()) failure = outcome.status;
    return;
  }
  tier.Arrived(outcome.slot);
  ready.Push(outcome.slot);
  ++counts.resident;
  const int64_t evicted = evicted_step[outcome.key];
  misses.Add({.id = layout.id(outcome.key),
              .reason = evicted < 0 ? MissReason::kNeverSeen : MissReason::kEvicted,
              .evicted_step = evicted,
              .read_ns = outcome.read_ns,
              .read_bytes = outcome.read_bytes});
}

void ExpertCache::State::WaitForOne() {
  const CauseScope scope(ledger, Cause::kWaitDrive);
  const int64_t start_ns = clock.NowNs();
  while (ready.empty() && failure.ok() && outstanding() > 0) {
    CHECK(loader->is_busy());  // else the caller holds pins_max refs and asks for more
    Poll(BlockReader::Wait::kUntilOne);
  }
  counts.wait_ns += clock.NowNs() - start_ns;
}

// Ends a request that cannot be fulfilled: what is under way is waited for, because its memory is
// the target of reads; what arrived stays resident.
absl::Status ExpertCache::State::GiveUp() {
  const CauseScope scope(ledger, Cause::kWaitDrive);
  waiting.Clear();
  while (loader->is_busy()) Poll(BlockReader::Wait::kUntilOne);
  while (!ready.empty()) {
    const int32_t slot = ready.Pop();
    TierOf(slot).Unkeep(slot);
  }
  return std::exchange(failure, absl::OkStatus());
}

ExpertCache::ExpertCache(std::unique_ptr<State> state) : state_(std::move(state)) {}

ExpertCache::~ExpertCache() {
  while (state_->loader->is_busy()) state_->Poll(BlockReader::Wait::kUntilOne);
  for (const Tier& tier : state_->tiers) {
    for (int32_t i = 0; i < tier.pool().slot_count(); ++i) {
      CHECK(tier.pool().state(tier.pool().first_slot() + i) != SlotState::kPinned);
    }
  }
}

absl::StatusOr<std::unique_ptr<ExpertCache>> ExpertCache::Create(
    const ExpertCatalog& catalog, const CachePlan& plan, const CacheOptions& options,
    BlockReader& reader, const Clock& clock, TimeLedger* ledger) {
  RETURN_IF_ERROR(CheckTiers(options, plan));
  auto state = std::make_unique<State>(catalog, reader, clock, ledger);
  int32_t slot_count = 0;
  for (const TierOptions& tier_options : options.tiers) {
    ASSIGN_OR_RETURN(const PolicyRow* policy, FindPolicy(tier_options.policy));
    ASSIGN_OR_RETURN(Tier tier, Tier::Create(state->layout, plan,
                                             {.policy = policy,
                                              .layer_floor = options.layer_floor,
                                              .first_slot = slot_count}));
    slot_count += tier.pool().slot_count();
    state->tiers.push_back(std::move(tier));
  }
  ASSIGN_OR_RETURN(state->loader, ExpertLoader::Create(state->layout,
                                                       {.verify_hashes = options.verify_hashes,
                                                        .file_names = options.file_names,
                                                        .slot_count = slot_count},
                                                       reader, clock));
  for (const Tier& tier : state->tiers) reader.RegisterMemory(tier.pool().arena().span());
  return std::unique_ptr<ExpertCache>(new ExpertCache(std::move(state)));
}

int ExpertCache::pins_max(int layer) const {
  return state_->tiers.back().pins_max(state_->layout.layer_index(layer));
}

absl::Status ExpertCache::Request(int layer, absl::Span<const int32_t> experts,
                                  absl::Span<const int32_t> /*rows*/) {
  State& s = *state_;
  CHECK(s.outstanding() == 0);
  const ExpertLayout::Layer& place = s.layout.layers()[s.layout.layer_index(layer)];
  // Residents first, all of them: no miss of this request may take one that comes later in it.
  for (const int32_t expert : experts) {
    CHECK(expert >= 0 && expert < place.expert_count);
    const ExpertKey key = place.first_key + expert;
    if (Tier* tier = s.TierWith(key)) tier->Keep(tier->Find(key));
  }
  // Then policies see the experts in the order asked, hit or miss. Whether an expert hits was
  // settled above: every one that is in a tier now is kept there.
  for (const int32_t expert : experts) {
    const ExpertKey key = place.first_key + expert;
    if (Tier* tier = s.TierWith(key)) {
      CHECK(tier->pool().state(tier->Find(key)) != SlotState::kLoading);  // asked for twice
      ++s.counts.hits;
      tier->Touch(key);
      s.ready.Push(tier->Find(key));
      continue;
    }
    ++s.counts.misses;
    if (!s.waiting.empty() || !s.StartLoad(key)) s.waiting.Push(key);
  }
  if (s.loading_count > 0) s.loader->Kick();
  return absl::OkStatus();
}

absl::StatusOr<int> ExpertCache::Collect(absl::Span<ExpertRef> out, Wait wait) {
  State& s = *state_;
  CHECK(!out.empty());
  if (s.loader->is_busy()) s.Poll(BlockReader::Wait::kNo);
  if (s.ready.empty() && wait == Wait::kUntilOne) s.WaitForOne();
  if (!s.failure.ok()) return s.GiveUp();
  int count = 0;
  while (count < static_cast<int>(out.size()) && !s.ready.empty()) {
    const int32_t slot = s.ready.Pop();
    Tier& tier = s.TierOf(slot);
    tier.Unkeep(slot);
    tier.Pin(slot);
    out[count++] = ExpertRef(this, slot, s.layout.id(tier.key_in(slot)), tier.parts(slot));
  }
  return count;
}

int ExpertCache::outstanding() const { return state_->outstanding(); }

void ExpertCache::Unpin(int32_t slot) {
  state_->TierOf(slot).Unpin(slot);
  state_->ClaimWaiting();
}

void ExpertCache::BeginStep(int64_t step) {
  state_->step = step;
  state_->misses.Clear();
}

absl::Span<const MissRecord> ExpertCache::misses() const { return state_->misses.records(); }
const CacheCounts& ExpertCache::counts() const { return state_->counts; }
const HostBuffer& ExpertCache::arena() const { return state_->tiers.back().pool().arena(); }

void ExpertCache::Report(CounterVisitor& visitor) const {
  const CacheCounts& counts = state_->counts;
  visitor.Counter("cache_hits", counts.hits);
  visitor.Counter("cache_misses", counts.misses);
  visitor.Counter("cache_evictions", counts.evictions);
  visitor.Counter("cache_read_bytes", counts.read_bytes);
  visitor.Counter("cache_retries", counts.retries);
  visitor.Counter("cache_wait_ns", static_cast<uint64_t>(counts.wait_ns));
  visitor.Counter("cache_busy_ns", static_cast<uint64_t>(counts.busy_ns));
  visitor.Gauge("cache_resident", static_cast<double>(counts.resident));
  for (const Tier& tier : state_->tiers) tier.Report(visitor);
}

}  // namespace stoker
