// What the expert store promises over VRAM and RAM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/cache/tiered_store.h"

namespace stoker {
namespace {

using testing::HasSubstr;
using Wait = ExpertProvider::Wait;
constexpr ExpertPlace kHost = ExpertPlace::kHost;
constexpr ExpertPlace kDevice = ExpertPlace::kDevice;

std::vector<int32_t> FirstExperts(int count) {
  std::vector<int32_t> experts(count);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

// Two residents and a transit slot in VRAM, both residents used once each: experts 0 and 1.
TieredStoreOptions SmallVram(PlaceRule place) {
  return {.vram_slot_count = 3, .ram_slot_count = 8, .place = place};
}
void FillVram(TieredStore& store) {
  ASSERT_EQ(store.AskOne(0, 0), kDevice);
  ASSERT_EQ(store.AskOne(0, 1), kDevice);
  store.Rest();
  ASSERT_EQ(store.Gauge("cache_vram_resident"), 2);
  ASSERT_EQ(store.Gauge("cache_ram_resident"), 0);
}

TEST(TieredCache, MissesFillVramFirstAndThenRam) {
  TieredStore store(SmallVram(PlaceRule::kCpu));
  FillVram(store);
  EXPECT_EQ(store.AskOne(0, 2), kHost);
  EXPECT_EQ(store.AskOne(1, 2), kHost);
  EXPECT_EQ(store.cache->counts().misses, 4u);
  EXPECT_EQ(store.cache->counts().resident, 4);
  EXPECT_EQ(store.cache->counts().device_experts, 2u);
  EXPECT_EQ(store.cache->counts().host_experts, 2u);
  EXPECT_EQ(store.AskOne(0, 1), kDevice);
  EXPECT_EQ(store.AskOne(0, 2), kHost);
  EXPECT_EQ(store.cache->counts().hits, 2u);
  EXPECT_EQ(store.cache->counts().vram_hits, 1u);
  store.Rest();
  EXPECT_EQ(store.wrong_bytes, 0);
  EXPECT_EQ(store.computed, 3);
}

TEST(TieredCache, ExpertInVramIsHandedOutBeforeItsCopyHasEnded) {
  TieredStore store({.device_rates = {.copy_in_bytes_per_second = 1e3}});  // seconds for an expert
  ASSERT_TRUE(store.cache->Request(0, {{3}}).ok());
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  EXPECT_EQ(ref.place(), kDevice);
  EXPECT_FALSE(store.device->IsDone(ref.ready()));
  EXPECT_FALSE(store.files.Matches(ref));
  ASSERT_TRUE(store.device->Await(ref.ready()).ok());
  EXPECT_TRUE(store.files.Matches(ref));
}

TEST(TieredCache, ForcedRulesDecideWhereExpertsInRamAreComputed) {
  const std::map<PlaceRule, std::pair<ExpertPlace, ExpertPlace>> expected = {
      {PlaceRule::kCpu, {kHost, kHost}},  // from a file, then from RAM
      {PlaceRule::kGpu, {kDevice, kDevice}},
      {PlaceRule::kCopy, {kHost, kDevice}}};
  for (const auto& [rule, places] : expected) {
    SCOPED_TRACE(static_cast<int>(rule));
    TieredStore store(SmallVram(rule));
    FillVram(store);
    EXPECT_EQ(store.AskOne(0, 5), places.first);
    EXPECT_EQ(store.AskOne(0, 5), places.second);
    store.Rest();
    EXPECT_EQ(store.wrong_bytes, 0);
  }
}

TEST(TieredCache, ExpertsArePlacedByTheRatesThatTheStepBeganWith) {
  TieredStoreOptions options = SmallVram(PlaceRule::kAuto);
  options.rates = {.host = 1e9, .host_row = 4e9, .copy_in = 1e6};
  TieredStore store(options);
  FillVram(store);
  store.cache->BeginStep(1);
  EXPECT_EQ(store.AskOne(0, 5), kHost);
  for (int i = 0; i < 200; ++i) store.cache->NoteHostCompute(1 << 20, 1 << 20, 1'000'000'000'000);
  EXPECT_LT(store.cache->rates().host, 1e5);
  EXPECT_EQ(store.AskOne(0, 5), kHost);
  store.cache->BeginStep(2);
  EXPECT_EQ(store.AskOne(0, 5), kDevice);
}

TEST(TieredCache, ExpertUsedOncePassesThroughVramAndStaysInRam) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  FillVram(store);
  for (const int32_t expert : {2, 3, 4, 5}) EXPECT_EQ(store.AskOne(0, expert), kDevice);
  store.Rest();
  EXPECT_EQ(store.Gauge("cache_vram_resident"), 2);
  EXPECT_EQ(store.Gauge("cache_ram_resident"), 4);
  EXPECT_EQ(store.cache->counts().copied_out_bytes, 0u);
  ASSERT_TRUE(store.Ask(0, {0, 1}).ok());
  EXPECT_EQ(store.cache->counts().vram_hits, 2u);
  EXPECT_EQ(store.wrong_bytes, 0);
}

TEST(TieredCache, ExpertUsedAgainTakesTheStalestPlaceInVramInExchange) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  FillVram(store);
  EXPECT_EQ(store.AskOne(0, 5), kDevice);
  EXPECT_EQ(store.AskOne(0, 5), kDevice);  // its use before is later than that of expert 0
  store.Rest();
  const CacheCounts before = store.cache->counts();
  EXPECT_GT(before.copied_out_bytes, 0u);
  EXPECT_EQ(store.Gauge("cache_vram_resident"), 2);
  EXPECT_EQ(store.Gauge("cache_ram_resident"), 1);
  ASSERT_TRUE(store.Ask(0, {5, 1}).ok());
  EXPECT_EQ(store.cache->counts().vram_hits, before.vram_hits + 2);
  ASSERT_TRUE(store.Ask(0, {0}).ok());  // in RAM now: neither in VRAM nor read again
  EXPECT_EQ(store.cache->counts().vram_hits, before.vram_hits + 2);
  EXPECT_EQ(store.cache->counts().misses, 3u);
  EXPECT_EQ(store.cache->counts().evictions, 0u);
  store.Rest();
  EXPECT_EQ(store.wrong_bytes, 0);
}

TEST(TieredCache, ExpertsThatTheHostComputesArePromotedInTheBackground) {
  TieredStore store(SmallVram(PlaceRule::kCpu));
  FillVram(store);
  EXPECT_EQ(store.AskOne(0, 5), kHost);
  EXPECT_EQ(store.AskOne(0, 5), kHost);
  store.Rest();
  EXPECT_EQ(store.AskOne(0, 5), kDevice);
  EXPECT_EQ(store.Gauge("cache_vram_resident"), 2);
  EXPECT_EQ(store.cache->counts().copy_wait_ns, 0);
}

TEST(TieredCache, OnceEverythingFitsNothingIsReadAgain) {
  for (const PlaceRule rule : {PlaceRule::kAuto, PlaceRule::kGpu, PlaceRule::kCpu}) {
    SCOPED_TRACE(static_cast<int>(rule));
    TieredStore store({.vram_slot_count = 20, .ram_slot_count = 14, .place = rule});
    for (int round = 0; round < 3; ++round) {
      for (int layer = 0; layer < 4; ++layer) {
        ASSERT_TRUE(store.Ask(layer, FirstExperts(8)).ok());
        store.clock.AdvanceNs(20'000);
      }
    }
    EXPECT_EQ(store.cache->counts().misses, 32u);
    EXPECT_EQ(store.cache->counts().resident, 32);
    store.Rest();
    EXPECT_EQ(store.wrong_bytes, 0);
  }
}

TEST(TieredCache, AutoSplitsBetweenHostAndDevice) {
  TieredStore store({.vram_slot_count = 2, .ram_slot_count = 8});
  for (int round = 0; round < 3; ++round) {
    for (int layer = 0; layer < 2; ++layer) ASSERT_TRUE(store.Ask(layer, {0, 1, 2, 3}).ok());
  }
  const CacheCounts& counts = store.cache->counts();
  EXPECT_GT(counts.host_experts, 6u);
  EXPECT_GT(counts.device_experts, 6u);
  // With many rows each, a slow host is spared.
  const auto places = *store.Ask(0, {0, 1, 2, 3}, {1000, 1000, 1000, 1000});
  for (const auto& [expert, place] : places) EXPECT_EQ(place, kDevice) << expert;
}

TEST(TieredCache, WaitingForACopyIsChargedToIt) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  FillVram(store);
  ASSERT_TRUE(store.Ask(1, {0, 1, 2}).ok());  // one transit slot for three
  store.Rest();
  store.ledger.Take();
  const CacheCounts before = store.cache->counts();
  ASSERT_TRUE(store.Ask(1, {0, 1, 2}).ok());
  const int64_t waited_ns = store.cache->counts().copy_wait_ns - before.copy_wait_ns;
  EXPECT_GT(waited_ns, 0);
  EXPECT_EQ(store.cache->counts().wait_ns - before.wait_ns, waited_ns);
  EXPECT_EQ(store.ledger.Take()[static_cast<size_t>(Cause::kWaitCopy)], waited_ns);
}

// A caller that holds what VRAM has must be given the rest somewhere else.
TEST(TieredCache, HoldingEveryVramSlotLeavesTheHost) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  std::vector<ExpertRef> refs(8);
  ASSERT_TRUE(store.cache->Request(0, FirstExperts(8)).ok());
  int count = 0;
  while (store.cache->outstanding() > 0) {
    count += *store.cache->Collect(absl::MakeSpan(refs).subspan(count), Wait::kUntilOne);
  }
  EXPECT_EQ(count, 8);
  int on_device = 0;
  for (const ExpertRef& ref : refs) on_device += ref.place() == kDevice ? 1 : 0;
  EXPECT_EQ(on_device, 3);
}

TEST(TieredCache, ExpertReleasedAfterAnEventStaysUntilThen) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  ASSERT_TRUE(store.cache->Request(0, {{2}}).ok());
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
  store.Compute(std::move(ref), uint64_t{1} << 40);  // reads it in a second
  for (int round = 0; round < 4; ++round) {
    for (int layer = 0; layer < 4; ++layer) ASSERT_TRUE(store.Ask(layer, {3, 4}).ok());
  }
  store.Rest();
  EXPECT_EQ(store.wrong_bytes, 0);
}

TEST(TieredCache, UnpinsBeyondTheBoundWaitForTheOldest) {
  TieredStore store(SmallVram(PlaceRule::kGpu));
  FillVram(store);
  const KernelCall call = {.name = "long",
                           .run = [](const void*, void*) { return 0; },
                           .touched_bytes = uint64_t{1} << 40};
  store.device->Launch(Stream::kCompute, call);
  const DeviceEvent late = store.device->Record(Stream::kCompute);
  for (int i = 0; i < 5000; ++i) {
    ExpertRef ref;
    ASSERT_TRUE(store.cache->Request(0, {{0}}).ok());
    ASSERT_EQ(*store.cache->Collect({&ref, 1}, Wait::kUntilOne), 1);
    ref.ReleaseAfter(late);
  }
  EXPECT_TRUE(store.device->IsDone(late));
}

TEST(TieredCache, CopiesThatWereWaitedForTeachTheirRate) {
  TieredStoreOptions options = SmallVram(PlaceRule::kGpu);
  options.files.part_bytes = {200'000, 200'000, 200'000};
  options.device_rates = {.copy_in_bytes_per_second = 5e9, .copy_in_ns = 0, .copy_out_ns = 0};
  options.rates = {.copy_in = 1e9};
  TieredStore store(options);
  for (int round = 0; round < 30; ++round) ASSERT_TRUE(store.Ask(1, {0, 1, 2, 3}).ok());
  EXPECT_NEAR(store.cache->rates().copy_in, 5e9, 0.5e9);
}

TEST(TieredCache, NoVramIsAsIfThereWereNoDevice) {
  TieredStore store({.vram_slot_count = 0, .ram_slot_count = 9});
  MemoryStore alone({.slot_count = 9});
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    const int layer = i % 4;
    const std::vector<int32_t> experts = {static_cast<int32_t>(random() % 4),
                                          static_cast<int32_t>(4 + random() % 4)};
    const auto places = *store.Ask(layer, experts);
    for (const auto& [expert, place] : places) EXPECT_EQ(place, kHost);
    ASSERT_TRUE(alone.Ask(layer, experts).ok());
    ASSERT_EQ(store.cache->counts().hits, alone.cache->counts().hits);
    ASSERT_EQ(store.cache->counts().read_bytes, alone.cache->counts().read_bytes);
  }
}

class TieredCreation : public testing::Test {
 protected:
  TieredCreation() : plan_(PlanWithSlots(files_, 4, 512)) {
    files_.AddTo(reader_);
    AddVram(4, plan_);
    options_.tiers = {{.kind = TierKind::kVram, .budget_bytes = UINT64_MAX},
                      {.kind = TierKind::kRam, .budget_bytes = UINT64_MAX}};
    Open({});
  }
  void Open(const DeviceOptions& options) {
    device_ = *MakeModelledDevice(options, &clock_);
    options_.device = device_.get();
  }
  absl::Status Create() const {
    return ExpertCache::Create(files_.catalog(), plan_, options_, reader_, clock_, nullptr)
        .status();
  }

  const ExpertFiles files_{{}};
  mutable MemoryReader reader_;
  VirtualClock clock_;
  CachePlan plan_;
  CacheOptions options_;
  std::unique_ptr<ModelledDevice> device_;
};

TEST_F(TieredCreation, RulesThatNeedVramAreRefusedWithoutIt) {
  plan_ = PlanWithSlots(files_, 4, 512);
  AddVram(0, plan_);
  for (const PlaceRule rule : {PlaceRule::kGpu, PlaceRule::kCopy}) {
    options_.place = rule;
    const absl::Status status = Create();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), HasSubstr(rule == PlaceRule::kGpu ? "'gpu'" : "'copy'"));
    EXPECT_THAT(Message(status), HasSubstr("no slot for an expert; give more VRAM"));
  }
  for (const PlaceRule rule : {PlaceRule::kAuto, PlaceRule::kCpu}) {
    options_.place = rule;
    EXPECT_TRUE(Create().ok());
  }
}

TEST_F(TieredCreation, TiersThatDoNotMatchTheDeviceAreRefused) {
  ASSERT_TRUE(Create().ok()) << Create();
  const std::vector<TierOptions> both = options_.tiers;
  for (const std::vector<TierOptions>& tiers :
       {std::vector<TierOptions>{both[1]}, {both[0]}, {both[1], both[0]}, {both[1], both[1]}}) {
    options_.tiers = tiers;
    EXPECT_EQ(Create().code(), absl::StatusCode::kInvalidArgument);
  }
  options_.tiers = both;
  options_.device = nullptr;
  EXPECT_THAT(Message(Create()), HasSubstr("without a device"));
}

TEST_F(TieredCreation, PlansBeyondTheBudgetOfATierAreRefused) {
  options_.tiers[0].budget_bytes = plan_.vram_bytes - 1;
  EXPECT_THAT(Message(Create()), HasSubstr("bytes of VRAM"));
  options_.tiers[0].budget_bytes = plan_.vram_bytes;
  options_.tiers[1].budget_bytes = plan_.arena_bytes + plan_.staging_bytes - 1;
  EXPECT_THAT(Message(Create()), HasSubstr("bytes of RAM"));
  options_.tiers[1].budget_bytes = plan_.arena_bytes + plan_.staging_bytes;
  EXPECT_TRUE(Create().ok());
}

TEST_F(TieredCreation, MemoryThatCannotBeHadIsSaidAsTheDeviceSaysIt) {
  Open({.modelled_memory_bytes = plan_.vram_bytes / 2});
  absl::Status status = Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("taking VRAM for experts"));
  Open({});
  device_->RefusePins(1);
  status = Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("pinning the arena for experts"));
}

}  // namespace
}  // namespace stoker
