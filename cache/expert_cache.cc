// The expert store over its tiers: requests, the rolling window, and what went wrong.
#include "cache/expert_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "cache/bounded_queue.h"
#include "cache/cache_options.h"
#include "cache/expert_hints.h"
#include "cache/expert_layout.h"
#include "cache/expert_loader.h"
#include "cache/miss_log.h"
#include "cache/resident_layers.h"
#include "cache/tier.h"
#include "cache/tier_exchange.h"

namespace stoker {
namespace {

constexpr size_t kReleasesMax = 4096;  // unpins that wait for the device

}  // namespace

// Members of the running request are in one of five places: `waiting` (a miss without a slot),
// loading (its slot is kept), `to_copy` (in RAM, its slot kept, bound for VRAM), `ready` (its slot
// is kept), or handed over (no longer ours to count).
//
// Why the rolling window cannot get stuck. Say Collect is called with members outstanding, nothing
// loading and nothing ready. Copies under way and unpins that wait for the device end by
// themselves, so say there are none either; then every staging buffer is free, and no miss waits
// for one. If `to_copy` is not empty, the caller itself holds the slots that it waits for, and its
// first member is handed out for the host: a rule of placement gives way to progress. So say
// `waiting` is all there is; the caller holds h < pins_max refs in RAM, for it must have room for
// one more. Nothing of the class is Empty, or it would have been claimed when it became so. No slot
// of RAM is kept: kept ones are loading, to be copied, ready, or the targets of copies. None is
// moving. So every slot of the class is Pinned, at most h of them; or Ready in another layer at its
// floor, at most floor * (layers - 1); or evictable. The first two are at most pins_max - 1 + floor
// * (layers - 1) = slots - 1 (Tier::pins_max). Hence one slot is evictable, and the first waiting
// miss would have taken it when it became so: in Request, at the last unpin or at the end of the
// last copy, the only moments at which a slot can turn evictable while a request runs.
//
// Guesses change nothing about that. What they read is loading too, and ends by itself: then its
// slot is Empty or evictable, and that is a further moment at which waiting misses are claimed for.
// What they guard gives way when nobody else may.
struct ExpertCache::State {
  struct Unpinning {
    int32_t slot = -1;
    DeviceEvent event;
  };

  State(const ExpertCatalog& catalog, const CacheOptions& options, const BlockReader& reader,
        const Clock& wall, TimeLedger* time_ledger)
      : layout(catalog, FileAlignments(catalog, reader)),
        clock(wall),
        ledger(time_ledger),
        device(options.device),
        place(options.place),
        residency(options.residency),
        given_rates(options.rates),
        step_rates(WholeRates(options.rates)),
        ready(layout.expert_count_max()),
        waiting(layout.expert_count_max()),
        to_copy(layout.expert_count_max()),
        evicted_step(layout.key_count(), -1) {}

  absl::Status TakeMemory(const CachePlan& plan, const CacheOptions& options);
  Tier& landing() { return tiers.back(); }  // the tier that files are read into
  Tier* TierWith(ExpertKey key);
  Tier& TierOf(int32_t slot);
  bool IsInVram(int32_t slot) const {
    return exchange != nullptr && slot < tiers.front().pool().slot_count();
  }
  void ClaimWaiting(Tier::Patience patience = Tier::Patience::kForTheChosen);
  bool StartLoad(ExpertKey key, Tier::Patience patience = Tier::Patience::kForTheChosen);
  void Poll(BlockReader::Wait wait);
  void LoadEnded(const ExpertLoader::Outcome& outcome);
  void HintEnded(const ExpertLoader::Outcome& outcome);
  void NoteEvicted(ExpertKey key);
  void NoteVisit(ExpertKey key);
  void BeginAsking(int layer_index, absl::Span<const int32_t> experts);
  void EndAsking();
  void IssueHints();
  void WaitForOne();
  absl::Status GiveUp();
  int outstanding() const {
    return static_cast<int>(ready.count() + waiting.count() + to_copy.count()) + loading_count;
  }

  void HandOver(int32_t slot);

  // With VRAM.
  void NoteUse(ExpertKey key, int32_t row_count);
  void AddCandidate(ExpertKey key);
  void PlaceCandidates(bool is_from_file);
  void TellPlacement(const PlaceQuestion& question, int copy_count) const;
  void StartCopies();
  void Unpin(int32_t slot);
  void PollDevice();
  void NoteDevice(const absl::Status& status);
  void WaitOverTiers();
  bool PollBoth();
  void AwaitDevice();

  const ExpertLayout layout;
  const Clock& clock;
  TimeLedger* const ledger;
  Device* const device;
  const PlaceRule place;
  ResidencyObserver* const residency;
  const LinkRates given_rates;
  LinkRates step_rates;     // the estimates as they were when the step began
  std::vector<Tier> tiers;  // fastest first
  std::unique_ptr<ExpertLoader> loader;
  std::unique_ptr<TierExchange> exchange;     // null without slots in VRAM
  std::unique_ptr<ResidentLayers> residents;  // as it
  std::unique_ptr<ExpertHints> hints;         // null when no guesses are taken

  BoundedQueue<int32_t> ready;      // slots, residents first
  BoundedQueue<ExpertKey> waiting;  // misses in the order asked
  BoundedQueue<ExpertKey> to_copy;  // to the device, in the order chosen
  int loading_count = 0;            // guesses that nobody asked for left out
  bool has_room_of_hint = false;    // since waiting misses were claimed for last
  absl::Status failure;             // why the running request will fail

  std::vector<PlaceCandidate> candidates;  // in RAM since the last choice of places
  std::vector<int32_t> rows;               // of the running request, by expert of the layer
  uint64_t device_backlog_bytes = 0;       // of the running request, see PlaceQuestion
  BoundedQueue<Unpinning> unpinnings{0};   // in the order asked
  absl::Status device_failure;             // after which the store is of no further use

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
void ExpertCache::State::ClaimWaiting(Tier::Patience patience) {
  bool is_started = false;
  while (!waiting.empty() && StartLoad(waiting.front(), patience)) {
    waiting.Pop();
    is_started = true;
  }
  if (is_started) loader->Kick();
}

// An expert is read into VRAM, by way of a staging buffer, while VRAM has room for it. It waits for
// a buffer if in RAM another would have to go for it.
bool ExpertCache::State::StartLoad(ExpertKey key, Tier::Patience patience) {
  if (exchange != nullptr) {
    const TierExchange::Staging staging = exchange->BeginStaging(key);
    if (staging.slot >= 0) {
      ++loading_count;
      loader->Start(staging.slot, key, staging.target);
      return true;
    }
    if (tiers.front().HasRoom(key) && !landing().HasRoom(key)) return false;
  }
  const Tier::Claimed claimed = landing().Claim(key, patience);
  if (claimed.evicted >= 0) NoteEvicted(claimed.evicted);
  if (claimed.slot < 0) return false;
  ++loading_count;
  loader->Start(claimed.slot, key, landing().pool().data(claimed.slot));
  return true;
}

void ExpertCache::State::NoteEvicted(ExpertKey key) {
  evicted_step[key] = step;
  ++counts.evictions;
  --counts.resident;
  if (residency != nullptr) {
    residency->OnResidency(ResidencyChange::kEvicted, layout.id(key),
                           layout.layer_of(key).expert_bytes);
  }
  if (hints != nullptr) hints->Left(key);
}

// One that was not admitted leaves as soon as it is used: it is as good as gone.
void ExpertCache::State::NoteVisit(ExpertKey key) {
  evicted_step[key] = step;
  --counts.resident;
  if (residency != nullptr) {
    residency->OnResidency(ResidencyChange::kEvicted, layout.id(key),
                           layout.layer_of(key).expert_bytes);
  }
}

void ExpertCache::State::Poll(BlockReader::Wait wait) {
  loader->Poll(wait, [this](const ExpertLoader::Outcome& outcome) { LoadEnded(outcome); });
  counts.read_bytes = loader->read_bytes();
  counts.retries = loader->retries();
  counts.busy_ns = loader->busy_ns();
  if (!candidates.empty()) PlaceCandidates(true);
  if (std::exchange(has_room_of_hint, false)) ClaimWaiting();
}

void ExpertCache::State::HintEnded(const ExpertLoader::Outcome& outcome) {
  if (hints->Ended(outcome)) ++counts.resident;
  has_room_of_hint = true;
}

// Before the experts of a layer are looked for: what guesses brought by now counts as there, and
// what they brought or guarded in vain is free to go.
void ExpertCache::State::BeginAsking(int layer_index, absl::Span<const int32_t> experts) {
  if (hints->is_loading()) Poll(BlockReader::Wait::kNo);
  hints->Asked(layer_index, experts);
  if (hints->is_loading()) Poll(BlockReader::Wait::kNo);
}

// Once all are: demand has been submitted, and takes the slots that guesses are read into if it
// cannot do without.
void ExpertCache::State::EndAsking() {
  if (loading_count > 0 || !waiting.empty()) hints->NoteDelay();
  if (!waiting.empty()) hints->CancelLoads();
  IssueHints();
}

// While demand is outstanding it is left to Collect to look at the drive: a failure is its to tell.
void ExpertCache::State::IssueHints() {
  const bool is_idle = loading_count == 0 && waiting.empty() && failure.ok();
  if (is_idle && (hints->is_loading() || hints->has_more())) {
    const CauseScope scope(ledger, Cause::kPrefetch);
    if (hints->is_loading()) Poll(BlockReader::Wait::kNo);
    hints->Issue([this](ExpertKey key) { NoteEvicted(key); });
  }
  counts.hints = hints->total();
  counts.warm = hints->warm_total();
}

void ExpertCache::State::LoadEnded(const ExpertLoader::Outcome& outcome) {
  if (outcome.priority == ReadPriority::kHint) return HintEnded(outcome);
  --loading_count;
  const int64_t evicted = evicted_step[outcome.key];
  MissReason reason = evicted < 0 ? MissReason::kNeverSeen : MissReason::kEvicted;
  if (hints != nullptr) reason = hints->EndMiss(outcome.key, evicted);
  Tier& tier = TierOf(outcome.slot);
  const bool is_staged = IsInVram(outcome.slot);
  if (is_staged) exchange->EndStaging(outcome.slot, outcome.status.ok());
  if (!outcome.status.ok()) {
    if (!is_staged) tier.Failed(outcome.slot);
    if (failure.ok()) failure = outcome.status;
    return;
  }
  if (!is_staged) tier.Arrived(outcome.slot);
  if (exchange != nullptr && !is_staged) {
    AddCandidate(outcome.key);
  } else {
    ready.Push(outcome.slot);
  }
  const ExpertId id = layout.id(outcome.key);
  if (residency != nullptr) {
    residency->OnResidency(ResidencyChange::kRead, id, outcome.read_bytes);
  }
  ++counts.resident;
  if (tier.is_visitor(outcome.slot)) NoteVisit(outcome.key);
  misses.Add({.id = id,
              .reason = reason,
              .evicted_step = evicted,
              .read_ns = outcome.read_ns,
              .read_bytes = outcome.read_bytes});
}

void ExpertCache::State::WaitForOne() {
  if (exchange != nullptr) return WaitOverTiers();
  const CauseScope scope(ledger, Cause::kWaitDrive);
  const int64_t start_ns = clock.NowNs();
  while (ready.empty() && failure.ok() && outstanding() > 0) {
    if (!loader->is_busy())
      ClaimWaiting(Tier::Patience::kForNobody);  // the caller holds the chosen
    CHECK(loader->is_busy());                    // else it holds pins_max refs and asks for more
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
  while (!to_copy.empty()) landing().Unkeep(landing().Find(to_copy.Pop()));
  while (!ready.empty()) {
    const int32_t slot = ready.Pop();
    TierOf(slot).Unkeep(slot);
  }
  return std::exchange(failure, absl::OkStatus());
}

// A resident that the running request needs: in VRAM for the device, else for whom the choice of
// places says.
void ExpertCache::State::HandOver(int32_t slot) {
  if (exchange == nullptr) {
    ready.Push(slot);
    return;
  }
  const ExpertKey key = TierOf(slot).key_in(slot);
  if (!IsInVram(slot)) return AddCandidate(key);
  const ExpertLayout::Layer& layer = layout.layer_of(key);
  device_backlog_bytes += DevicePassBytes(layer.expert_bytes, rows[key - layer.first_key]);
  ++counts.vram_hits;
  ready.Push(slot);
}

void ExpertCache::State::NoteUse(ExpertKey key, int32_t row_count) {
  rows[key - layout.layer_of(key).first_key] = row_count;
  exchange->Used(key);
}

void ExpertCache::State::AddCandidate(ExpertKey key) {
  const ExpertLayout::Layer& layer = layout.layer_of(key);
  candidates.push_back({.key = key,
                        .bytes = layer.expert_bytes,
                        .rows = rows[key - layer.first_key],
                        .is_worth_keeping = exchange->IsWorthKeeping(key)});
}

// Decides for the candidates, which are of the running request, where they are computed.
void ExpertCache::State::PlaceCandidates(bool is_from_file) {
  int copy_count = 0;
  if (tiers.front().has_slots(layout.layer_of(candidates.front().key).size_class)) {
    const PlaceQuestion question = {.rule = place,
                                    .rates = step_rates,
                                    .is_from_file = is_from_file,
                                    .device_backlog_bytes = device_backlog_bytes};
    copy_count = ChoosePlaces(question, absl::MakeSpan(candidates));
    TellPlacement(question, copy_count);
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    const ExpertKey key = candidates[i].key;
    if (static_cast<int>(i) < copy_count) {
      to_copy.Push(key);
    } else {
      ready.Push(landing().Find(key));
    }
  }
  candidates.clear();
  StartCopies();
}

// A rule that places without rates needs no record to be followed.
void ExpertCache::State::TellPlacement(const PlaceQuestion& question, int copy_count) const {
  if (residency == nullptr || question.rule != PlaceRule::kAuto) return;
  const ExpertKey key = candidates.front().key;
  residency->OnPlacement({.layer = layout.id(key).layer,
                          .first_key = layout.layer_of(key).first_key,
                          .question = question,
                          .experts = candidates,
                          .copy_count = copy_count});
}

void ExpertCache::State::StartCopies() {
  while (!to_copy.empty()) {
    const int32_t slot = exchange->CopyToDevice(to_copy.front());
    if (slot < 0) return;
    to_copy.Pop();
    ready.Push(slot);
  }
}

void ExpertCache::State::Unpin(int32_t slot) {
  Tier& tier = TierOf(slot);
  tier.Unpin(slot);
  const bool is_in_ram = exchange != nullptr && !IsInVram(slot);
  if (is_in_ram && tier.IsIdle(slot)) exchange->Offer(tier.key_in(slot));
}

void ExpertCache::State::NoteDevice(const absl::Status& status) {
  if (status.ok() || !device_failure.ok()) return;
  device_failure = status;
  if (failure.ok()) failure = status;
}

// Whatever has come to an end on the device may have made room.
void ExpertCache::State::PollDevice() {
  while (!unpinnings.empty() && device->IsDone(unpinnings.front().event)) {
    Unpin(unpinnings.Pop().slot);
  }
  if (device_failure.ok()) NoteDevice(exchange->Poll());
  StartCopies();
  ClaimWaiting();
  counts.copied_in_bytes = exchange->mover().copied_in_bytes();
  counts.copied_out_bytes = exchange->mover().copied_out_bytes();
  counts.vram_resident = tiers.front().resident_count();
}

// Reads end by themselves and hand over; what the device does helps only those that need room.
void ExpertCache::State::WaitOverTiers() {
  const int64_t start_ns = clock.NowNs();
  while (ready.empty() && failure.ok() && outstanding() > 0) {
    const bool needs_room = !to_copy.empty() || !waiting.empty();
    const bool is_device_busy = exchange->is_busy() || !unpinnings.empty();
    // What is read on guesses hands nothing over; its slots can only help those that have none.
    if (loading_count > 0 || (loader->is_busy() && !waiting.empty())) {
      const CauseScope scope(ledger, Cause::kWaitDrive);
      if (!needs_room || !is_device_busy) {
        Poll(BlockReader::Wait::kUntilOne);
      } else if (!PollBoth()) {
        AwaitDevice();
      }
      continue;
    }
    if (is_device_busy) {
      const CauseScope scope(ledger, Cause::kWaitCopy);
      const int64_t from_ns = clock.NowNs();
      AwaitDevice();
      counts.copy_wait_ns += clock.NowNs() - from_ns;
      continue;
    }
    CHECK(!to_copy.empty());  // else the caller holds pins_max refs and asks for more
    ready.Push(landing().Find(to_copy.Pop()));
  }
  counts.wait_ns += clock.NowNs() - start_ns;
}

// Looks at drive and device in turn for a while; whether there is something to hand over. A clock
// that stands still is moved on by blocking only.
bool ExpertCache::State::PollBoth() {
  constexpr int64_t kPollNs = 1'000'000;
  const int64_t start_ns = clock.NowNs();
  int64_t now_ns = start_ns;
  do {
    Poll(BlockReader::Wait::kNo);
    PollDevice();
    if (!ready.empty() || !failure.ok()) return true;
    const bool is_device_busy = exchange->is_busy() || !unpinnings.empty();
    if (!loader->is_busy() || !is_device_busy) return true;  // no longer a choice
    now_ns = clock.NowNs();
  } while (now_ns > start_ns && now_ns - start_ns < kPollNs);
  return false;
}

void ExpertCache::State::AwaitDevice() {
  if (exchange->is_busy()) {
    NoteDevice(exchange->AwaitOne());
  } else if (!unpinnings.empty()) {
    NoteDevice(device->Await(unpinnings.front().event));
  }
  PollDevice();
}

ExpertCache::ExpertCache(std::unique_ptr<State> state) : state_(std::move(state)) {}

ExpertCache::~ExpertCache() {
  state_->waiting.Clear();
  while (state_->loader->is_busy()) state_->Poll(BlockReader::Wait::kUntilOne);
  while (!state_->unpinnings.empty()) {
    const State::Unpinning unpinning = state_->unpinnings.Pop();
    state_->device->Await(unpinning.event).IgnoreError();
    state_->TierOf(unpinning.slot).Unpin(unpinning.slot);
  }
  if (state_->exchange != nullptr) state_->exchange->Abandon();
  for (const Tier& tier : state_->tiers) {
    for (int32_t i = 0; i < tier.pool().slot_count(); ++i) {
      CHECK(tier.pool().state(tier.pool().first_slot() + i) != SlotState::kPinned);
    }
  }
}

absl::StatusOr<std::unique_ptr<ExpertCache>> ExpertCache::Create(
    const ExpertCatalog& catalog, const CachePlan& plan, const CacheOptions& options,
    BlockReader& reader, const Clock& clock, TimeLedger* ledger) {
  RETURN_IF_ERROR(CheckCacheOptions(options, plan));
  auto state = std::make_unique<State>(catalog, options, reader, clock, ledger);
  RETURN_IF_ERROR(state->TakeMemory(plan, options));
  int32_t slot_count = 0;
  for (const Tier& tier : state->tiers) slot_count += tier.pool().slot_count();
  ASSIGN_OR_RETURN(state->loader, ExpertLoader::Create(state->layout,
                                                       {.verify_hashes = options.verify_hashes,
                                                        .file_names = options.file_names,
                                                        .slot_count = slot_count},
                                                       reader, clock));
  if (options.hint_loads_max > 0) {
    state->hints = std::make_unique<ExpertHints>(
        state->layout, options.hint_loads_max, absl::MakeSpan(state->tiers), state->exchange.get(),
        *state->loader, clock, options.residency);
    state->landing().Guard(state->hints->guards());
  }
  reader.RegisterMemory(state->landing().pool().arena().span());
  if (state->exchange != nullptr) reader.RegisterMemory(state->exchange->staging().span());
  return std::unique_ptr<ExpertCache>(new ExpertCache(std::move(state)));
}

// A VRAM tier without slots is none, and then nothing is copied either.
absl::Status ExpertCache::State::TakeMemory(const CachePlan& plan, const CacheOptions& options) {
  const bool has_vram = device != nullptr && plan.vram_bytes > 0;
  const SlotArena::Kind host_kind = options.addresses_only ? SlotArena::Kind::kAddresses
                                    : has_vram             ? SlotArena::Kind::kPinned
                                                           : SlotArena::Kind::kHost;
  tiers.reserve(options.tiers.size());
  int32_t slot_count = 0;
  for (const TierOptions& tier_options : options.tiers) {
    ASSIGN_OR_RETURN(PolicyChoice policy, ChoosePolicy(tier_options.policy, options.settings));
    const bool is_vram = tier_options.kind == TierKind::kVram;
    if (is_vram && !has_vram) continue;
    ASSIGN_OR_RETURN(AdmissionChoice admission,
                     ChooseAdmission(tier_options.admission, options.settings));
    const SlotArena::Options arena = {.kind = is_vram ? SlotArena::Kind::kDevice : host_kind,
                                      .device = device};
    ASSIGN_OR_RETURN(Tier tier, Tier::Create(layout, plan,
                                             {.kind = tier_options.kind,
                                              .policy = std::move(policy),
                                              .admission = std::move(admission),
                                              .is_below_another = has_vram && !is_vram,
                                              .profile = options.profile,
                                              .layer_floor = options.layer_floor,
                                              .first_slot = slot_count,
                                              .arena = arena}));
    slot_count += tier.pool().slot_count();
    tiers.push_back(std::move(tier));
  }
  if (!has_vram) return absl::OkStatus();
  candidates.reserve(layout.expert_count_max());
  rows.resize(layout.expert_count_max());
  unpinnings = BoundedQueue<Unpinning>(kReleasesMax);
  residents = std::make_unique<ResidentLayers>(layout, tiers.front(), *device);
  ASSIGN_OR_RETURN(exchange, TierExchange::Create(layout,
                                                  {.device = device,
                                                   .staging_bytes = plan.staging_bytes,
                                                   .staging_kind = host_kind,
                                                   .rates = options.rates,
                                                   .residency = options.residency},
                                                  tiers.front(), tiers.back(), clock));
  return absl::OkStatus();
}

int ExpertCache::pins_max(int layer) const {
  return state_->tiers.back().pins_max(state_->layout.layer_index(layer));
}

absl::Status ExpertCache::Request(int layer, absl::Span<const int32_t> experts,
                                  absl::Span<const int32_t> rows) {
  State& s = *state_;
  CHECK(s.outstanding() == 0);
  CHECK(rows.empty() || rows.size() == experts.size());
  const int layer_index = s.layout.layer_index(layer);
  const ExpertLayout::Layer& place = s.layout.layers()[layer_index];
  if (s.exchange != nullptr) {
    s.PollDevice();
    if (!s.device_failure.ok()) return s.device_failure;
    s.device_backlog_bytes = 0;
  }
  for (Tier& tier : s.tiers) tier.BeginRequest(layer_index);
  if (s.hints != nullptr) s.BeginAsking(layer_index, experts);
  // Residents first, all of them: no miss of this request may take one that comes later in it.
  for (const int32_t expert : experts) {
    CHECK(expert >= 0 && expert < place.expert_count);
    const ExpertKey key = place.first_key + expert;
    if (Tier* tier = s.TierWith(key)) tier->Keep(tier->Find(key));
  }
  // Then policies see the experts in the order asked, hit or miss. Whether an expert hits was
  // settled above: every one that is in a tier now is kept there.
  for (size_t i = 0; i < experts.size(); ++i) {
    const ExpertKey key = place.first_key + experts[i];
    s.landing().Used(key);
    if (s.exchange != nullptr) s.NoteUse(key, rows.empty() ? 1 : rows[i]);
    if (Tier* tier = s.TierWith(key)) {
      tier->Touch(key);
      if (tier->pool().state(tier->Find(key)) == SlotState::kLoading) {
        CHECK(s.hints != nullptr);  // else asked for twice
        s.hints->Join(key);
        ++s.counts.misses;
        ++s.loading_count;
        continue;
      }
      ++s.counts.hits;
      s.HandOver(tier->Find(key));
      continue;
    }
    ++s.counts.misses;
    if (!s.waiting.empty() || !s.StartLoad(key)) s.waiting.Push(key);
  }
  if (!s.candidates.empty()) s.PlaceCandidates(false);
  if (s.loading_count > 0) s.loader->Kick();
  if (s.hints != nullptr) s.EndAsking();
  return absl::OkStatus();
}

absl::StatusOr<int> ExpertCache::Collect(absl::Span<ExpertRef> out, Wait wait) {
  State& s = *state_;
  CHECK(!out.empty());
  if (s.loader->is_busy()) s.Poll(BlockReader::Wait::kNo);
  if (s.exchange != nullptr) s.PollDevice();
  if (s.ready.empty() && wait == Wait::kUntilOne && s.outstanding() > 0) s.WaitForOne();
  if (!s.failure.ok()) return s.GiveUp();
  int count = 0;
  while (count < static_cast<int>(out.size()) && !s.ready.empty()) {
    const int32_t slot = s.ready.Pop();
    Tier& tier = s.TierOf(slot);
    tier.Pin(slot);
    tier.Unkeep(slot);
    const ExpertId id = s.layout.id(tier.key_in(slot));
    if (s.IsInVram(slot)) {
      ++s.counts.device_experts;
      out[count++] = ExpertRef(this, slot, id, tier.parts(slot), tier.ready(slot));
    } else {
      ++s.counts.host_experts;
      out[count++] = ExpertRef(this, slot, id, tier.parts(slot));
    }
  }
  if (s.hints != nullptr) s.IssueHints();
  return count;
}

int ExpertCache::outstanding() const { return state_->outstanding(); }

void ExpertCache::Unpin(int32_t slot) {
  state_->Unpin(slot);
  state_->StartCopies();
  state_->ClaimWaiting();
}

void ExpertCache::UnpinAfter(int32_t slot, DeviceEvent event) {
  State& s = *state_;
  if (s.exchange == nullptr || s.device->IsDone(event)) return Unpin(slot);
  if (s.unpinnings.count() == kReleasesMax) {
    s.NoteDevice(s.device->Await(s.unpinnings.front().event));
    s.Unpin(s.unpinnings.Pop().slot);
  }
  s.unpinnings.Push({.slot = slot, .event = event});
}

void ExpertCache::NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) {
  if (state_->exchange != nullptr) state_->exchange->NoteHostCompute(bytes, row_bytes, ns);
}

ResidentLayer ExpertCache::Resident(int layer) {
  State& s = *state_;
  if (s.residents == nullptr || !s.device_failure.ok()) return {};
  return s.residents->Find(s.layout.layer_index(layer));
}

// As Request counts residents of VRAM, and tells the policy.
void ExpertCache::NoteUses(int layer, absl::Span<const int32_t> experts,
                           absl::Span<const int32_t> rows) {
  State& s = *state_;
  CHECK(rows.empty() || rows.size() == experts.size());
  const ExpertLayout::Layer& place = s.layout.layers()[s.layout.layer_index(layer)];
  if (s.hints != nullptr) s.BeginAsking(s.layout.layer_index(layer), experts);
  for (size_t i = 0; i < experts.size(); ++i) {
    const ExpertKey key = place.first_key + experts[i];
    s.landing().Used(key);
    s.NoteUse(key, rows.empty() ? 1 : rows[i]);
    s.tiers.front().Touch(key);
  }
  s.counts.hits += experts.size();
  s.counts.vram_hits += experts.size();
  s.counts.device_experts += experts.size();
  if (s.hints != nullptr) s.EndAsking();
}

const LinkRates& ExpertCache::rates() const {
  const State& s = *state_;
  return s.exchange != nullptr ? s.exchange->estimates().rates() : s.given_rates;
}

void ExpertCache::Guess(int layer, absl::Span<const int32_t> experts) {
  State& s = *state_;
  if (s.hints == nullptr) return;
  s.hints->Guess(s.layout.layer_index(layer), experts);
  s.counts.hints = s.hints->total();
}

void ExpertCache::Warm(absl::Span<const ExpertKey> order) {
  CHECK(state_->hints != nullptr);
  state_->hints->Warm(order);
  IssueHints();
}

void ExpertCache::WithdrawGuesses() {
  if (state_->hints == nullptr) return;
  state_->hints->WithdrawAll();
  state_->IssueHints();  // begins nothing: takes note of what was given up
}

void ExpertCache::IssueHints() {
  State& s = *state_;
  if (s.hints == nullptr) return;
  if (s.exchange != nullptr) s.PollDevice();  // copies that have ended give staging buffers back
  s.IssueHints();
}

std::vector<ExpertKey> ExpertCache::ExpertsThatFit(TierKind kind) const {
  const State& s = *state_;
  absl::Span<const Tier> tiers = s.tiers;
  if (kind == TierKind::kVram) tiers = tiers.first(s.exchange != nullptr ? 1 : 0);
  std::vector<ExpertKey> keys;
  keys.reserve(static_cast<size_t>(s.layout.key_count()));
  for (const ExpertLayout::Layer& layer : s.layout.layers()) {
    int64_t slot_count = 0;
    for (const Tier& tier : tiers) slot_count += tier.resident_max(layer.size_class);
    if (slot_count < s.layout.classes()[layer.size_class].expert_count) continue;
    for (int e = 0; e < layer.expert_count; ++e) keys.push_back(layer.first_key + e);
  }
  return keys;
}

absl::Span<const HintCounts> ExpertCache::hint_counts() const {
  return state_->hints != nullptr ? state_->hints->counts() : absl::Span<const HintCounts>();
}

uint64_t ExpertCache::HintTableBytes(const ExpertCatalog& catalog) {
  return ExpertHints::PlanBytes(catalog);
}

void ExpertCache::BeginStep(int64_t step) {
  state_->step = step;
  if (state_->exchange != nullptr) {
    state_->step_rates = WholeRates(state_->exchange->estimates().rates());
  }
  if (state_->hints != nullptr) state_->hints->BeginStep(step);
  state_->misses.Clear();
}

absl::Span<const MissRecord> ExpertCache::misses() const { return state_->misses.records(); }
const CacheCounts& ExpertCache::counts() const { return state_->counts; }
const HostBuffer& ExpertCache::arena() const { return state_->tiers.back().pool().arena(); }

void ExpertCache::ReportVram(CounterVisitor& visitor) const {
  const CacheCounts& counts = state_->counts;
  visitor.Counter("cache_vram_hits", counts.vram_hits);
  visitor.Counter("cache_copied_in_bytes", counts.copied_in_bytes);
  visitor.Counter("cache_copied_out_bytes", counts.copied_out_bytes);
  visitor.Counter("cache_host_experts", counts.host_experts);
  visitor.Counter("cache_device_experts", counts.device_experts);
  visitor.Counter("cache_copy_wait_ns", static_cast<uint64_t>(counts.copy_wait_ns));
  visitor.Gauge("cache_vram_resident", static_cast<double>(counts.vram_resident));
  visitor.Gauge("cache_ram_resident", static_cast<double>(state_->landing().resident_count()));
  const LinkRates& rates = this->rates();
  visitor.Gauge("cache_rate_host", rates.host);
  visitor.Gauge("cache_rate_host_row", rates.host_row);
  visitor.Gauge("cache_rate_copy_in", rates.copy_in);
  visitor.Gauge("cache_rate_copy_out", rates.copy_out);
}

void ExpertCache::ReportHints(CounterVisitor& visitor) const {
  const HintCounts& hints = state_->hints->total();
  visitor.Counter("cache_hints_issued", hints.issued);
  visitor.Counter("cache_hints_used", hints.used);
  visitor.Counter("cache_hints_late", hints.late);
  visitor.Counter("cache_hints_dropped", hints.dropped);
  visitor.Counter("cache_hints_wasted", hints.wasted);
  visitor.Counter("cache_hints_unread", hints.unread);
  visitor.Counter("cache_hint_issued_bytes", hints.issued_bytes);
  visitor.Counter("cache_hint_used_bytes", hints.used_bytes);
  visitor.Counter("cache_hint_late_bytes", hints.late_bytes);
  visitor.Counter("cache_hint_wasted_bytes", hints.wasted_bytes);
  visitor.Counter("cache_hint_saved_bytes", hints.saved_bytes);
  visitor.Counter("cache_hint_delay_bytes", hints.delay_bytes);
  visitor.Counter("cache_hint_displaced_bytes", hints.displaced_bytes);
  visitor.Gauge("cache_hints_loading", static_cast<double>(state_->hints->loading_count()));
  visitor.Gauge("cache_hints_unused", static_cast<double>(state_->hints->unused_count()));
}

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
  if (state_->exchange != nullptr) ReportVram(visitor);
  if (state_->hints != nullptr) ReportHints(visitor);
  for (const Tier& tier : state_->tiers) tier.Report(visitor);
}

}  // namespace stoker
