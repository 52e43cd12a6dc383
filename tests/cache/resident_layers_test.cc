// Layers that are in VRAM for good: when they are, where, and how their uses count.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <random>

#include "tests/cache/tiered_store.h"

namespace stoker {
namespace {

constexpr int kLayers = 4;
constexpr int kExperts = 8;

std::vector<int32_t> AllExperts() {
  std::vector<int32_t> experts(kExperts);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

// Every expert fits into VRAM.
TieredStoreOptions Roomy() { return {.vram_slot_count = kLayers * kExperts, .ram_slot_count = 4}; }

void ExpectTableHasTheExpertsBytes(const TieredStore& store, int layer, ResidentLayer resident) {
  ASSERT_NE(resident.parts, nullptr);
  for (int32_t e = 0; e < kExperts; ++e) {
    const ExpertRef view(nullptr, 0, {layer, e}, resident.parts + e * kExpertPartsMax);
    EXPECT_TRUE(store.files.Matches(view)) << e;
  }
}

TEST(ResidentLayers, AreThoseWhoseExpertsHaveAllArrived) {
  TieredStore store(Roomy());
  EXPECT_EQ(store.cache->Resident(1).parts, nullptr);
  ASSERT_TRUE(store.Ask(1, {0, 1, 2, 3, 4, 5, 6}).ok());
  store.Rest();
  EXPECT_EQ(store.cache->Resident(1).parts, nullptr);
  store.AskOne(1, 7);
  store.Rest();
  const ResidentLayer resident = store.cache->Resident(1);
  ExpectTableHasTheExpertsBytes(store, 1, resident);
  EXPECT_TRUE(store.device->IsDone(resident.since));
  EXPECT_GT(resident.since.sequence, 0u);
  EXPECT_EQ(store.cache->Resident(0).parts, nullptr);
  EXPECT_EQ(store.cache->Resident(2).parts, nullptr);
}

TEST(ResidentLayers, AreNotThereWhileACopyIsOnItsWay) {
  TieredStore store(Roomy());
  ASSERT_TRUE(store.Ask(2, {0, 1, 2, 3, 4, 5, 6}).ok());
  store.Rest();
  ASSERT_TRUE(store.cache->Request(2, std::vector<int32_t>{7}).ok());
  ExpertRef ref;
  ASSERT_EQ(*store.cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne), 1);
  ASSERT_EQ(ref.place(), ExpertPlace::kDevice);
  ASSERT_FALSE(store.device->IsDone(ref.ready()));
  EXPECT_EQ(store.cache->Resident(2).parts, nullptr);
  const DeviceEvent ready = ref.ready();
  store.Compute(std::move(ref));
  ASSERT_TRUE(store.device->Await(ready).ok());
  EXPECT_NE(store.cache->Resident(2).parts, nullptr);
}

TEST(ResidentLayers, StayWhereTheyAreWhateverElseIsAsked) {
  TieredStore store(Roomy());
  ASSERT_TRUE(store.Ask(3, AllExperts()).ok());
  store.Rest();
  ASSERT_TRUE(store.Ask(3, AllExperts()).ok());  // some came by way of RAM
  store.Rest();
  const ResidentLayer first = store.cache->Resident(3);
  ASSERT_NE(first.parts, nullptr);
  const std::vector<const std::byte*> parts(first.parts, first.parts + kExperts * kExpertPartsMax);
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    std::vector<int32_t> experts = AllExperts();
    std::shuffle(experts.begin(), experts.end(), random);
    experts.resize(1 + random() % 4);
    ASSERT_TRUE(store.Ask(static_cast<int>(random() % kLayers), experts).ok());
  }
  store.Rest();
  const ResidentLayer again = store.cache->Resident(3);
  EXPECT_EQ(again.parts, first.parts);
  EXPECT_EQ(again.since.sequence, first.since.sequence);
  EXPECT_TRUE(std::equal(parts.begin(), parts.end(), again.parts));
  ExpectTableHasTheExpertsBytes(store, 3, again);
  EXPECT_EQ(store.wrong_bytes, 0);
}

// The first layer's experts are larger, and VRAM holds all of them, but a third of the others.
TEST(ResidentLayers, AreOfClassesThatFitWholly) {
  TieredStoreOptions options = {.vram_slot_count = kExperts, .ram_slot_count = 24};
  options.files.large_layers = 1;
  TieredStore store(options);
  for (int round = 0; round < 3; ++round) {
    for (const int layer : {0, 1}) {
      ASSERT_TRUE(store.Ask(layer, AllExperts()).ok());
      store.Rest();
    }
  }
  ExpectTableHasTheExpertsBytes(store, 0, store.cache->Resident(0));
  EXPECT_EQ(store.cache->Resident(1).parts, nullptr);
}

TEST(ResidentLayers, ThereAreNoneWithoutVram) {
  TieredStore store({.vram_slot_count = 0, .ram_slot_count = kLayers * kExperts});
  ASSERT_TRUE(store.Ask(1, AllExperts()).ok());
  EXPECT_EQ(store.cache->Resident(1).parts, nullptr);
}

// Has a store read all that VRAM has room for, without a step, until nothing more comes.
void FillVram(TieredStore& store) {
  store.cache->Warm(store.cache->ExpertsThatFit(TierKind::kVram));
  for (int i = 0; i < 200; ++i) {
    store.clock.AdvanceNs(10'000'000);
    store.cache->IssueHints();
  }
}

TieredStoreOptions RoomyAndFilled() {
  TieredStoreOptions options = Roomy();
  options.hint_loads_max = 4;
  return options;
}

TEST(ResidentLayers, AreFilledWithoutAnyUse) {
  TieredStore store(RoomyAndFilled());
  FillVram(store);
  for (int layer = 0; layer < kLayers; ++layer) {
    ExpectTableHasTheExpertsBytes(store, layer, store.cache->Resident(layer));
  }
  const CacheCounts& counts = store.cache->counts();
  EXPECT_EQ(counts.vram_resident, kLayers * kExperts);
  EXPECT_EQ(counts.resident, kLayers * kExperts);
  EXPECT_EQ(counts.warm.issued, static_cast<uint64_t>(kLayers * kExperts));
  EXPECT_EQ(counts.hits + counts.misses, 0u);
  EXPECT_EQ(counts.evictions, 0u);
  store.cache->NoteUses(1, AllExperts(), {});
  EXPECT_EQ(counts.warm.used, static_cast<uint64_t>(kExperts));
}

TEST(ResidentLayers, AreFilledThoughSomeOfTheirExpertsAreInRam) {
  TieredStoreOptions options = RoomyAndFilled();
  options.ram_slot_count = kExperts;
  options.place = PlaceRule::kCpu;
  TieredStore store(options);
  ASSERT_TRUE(store.Ask(1, AllExperts()).ok());  // more than the ring holds: some land in RAM
  ASSERT_GT(store.Gauge("cache_ram_resident"), 0);
  FillVram(store);
  store.cache->BeginStep(2);  // those that were in RAM are looked for again
  FillVram(store);
  ExpectTableHasTheExpertsBytes(store, 1, store.cache->Resident(1));
  EXPECT_EQ(store.Gauge("cache_ram_resident"), 0);
}

TEST(ResidentLayers, AreFilledBesideRequests) {
  for (const uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    TieredStoreOptions options = RoomyAndFilled();
    options.ram_slot_count = 3;
    options.seed = seed;
    TieredStore store(options);
    store.cache->Warm(store.cache->ExpertsThatFit(TierKind::kVram));
    std::mt19937 random(seed);
    int step = 0;
    const auto is_settled = [&] {
      for (int layer = 0; layer < kLayers; ++layer) {
        if (store.cache->Resident(layer).parts == nullptr) return false;
      }
      return true;
    };
    while (!is_settled() && ++step < 500) {
      store.cache->BeginStep(step);
      for (int layer = 0; layer < kLayers; ++layer) {
        // Half of the experts are never asked for.
        std::vector<int32_t> experts = {0, 1, 2, 3};
        std::shuffle(experts.begin(), experts.end(), random);
        experts.resize(1 + random() % 4);
        ASSERT_TRUE(store.Ask(layer, experts).ok());
      }
      store.clock.AdvanceNs(static_cast<int64_t>(random() % 3'000'000));
    }
    EXPECT_TRUE(is_settled()) << seed;
    EXPECT_EQ(store.wrong_bytes, 0);
    EXPECT_EQ(store.cache->counts().evictions, 0u);
    EXPECT_LT(step, 500);
  }
}

TEST(ResidentLayers, AReadThatFillsVramIsJoinedByTheStepThatAsksForIt) {
  TieredStoreOptions options = RoomyAndFilled();
  options.is_manual = true;
  TieredStore store(options);
  store.cache->Warm({{0, 1}});
  EXPECT_EQ(store.cache->counts().warm.issued, 2u);
  EXPECT_EQ(store.AskOne(0, 0), ExpertPlace::kDevice);
  EXPECT_EQ(store.cache->counts().misses, 1u);
  EXPECT_EQ(store.cache->counts().warm.late, 1u);
  ASSERT_TRUE(store.device->Await(store.device->Record(Stream::kCompute)).ok());
  EXPECT_EQ(store.computed, 1);
  EXPECT_EQ(store.wrong_bytes, 0);
}

TEST(ResidentLayers, FillingLeavesHalfOfTheRingToDemand) {
  TieredStoreOptions options = RoomyAndFilled();
  options.is_manual = true;
  TieredStore store(options);
  store.cache->Warm(store.cache->ExpertsThatFit(TierKind::kVram));
  EXPECT_EQ(store.cache->counts().warm.issued, static_cast<uint64_t>(kStagingSlots / 2));
}

TEST(ResidentLayers, AFailedReadOfAFillIsNobodysErrorAndIsTriedAgain) {
  TieredStore store(RoomyAndFilled());
  store.reader.FailRange(0, 0, UINT64_MAX, EIO, 40);
  FillVram(store);
  for (int step = 1; step < 30; ++step) {
    store.cache->BeginStep(step);
    for (int i = 0; i < 200; ++i) {
      store.clock.AdvanceNs(10'000'000);
      store.cache->IssueHints();
    }
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    EXPECT_NE(store.cache->Resident(layer).parts, nullptr) << layer;
  }
  EXPECT_GT(store.cache->counts().warm.dropped, 0u);
}

TEST(ResidentLayers, AreNotFilledWhereTheyDoNotFitWholly) {
  TieredStoreOptions options = {.vram_slot_count = kExperts, .ram_slot_count = 24};
  options.files.large_layers = 1;
  options.hint_loads_max = 4;
  TieredStore store(options);
  const std::vector<ExpertKey> all_of_the_first = store.cache->ExpertsThatFit(TierKind::kVram);
  ASSERT_EQ(all_of_the_first.size(), static_cast<size_t>(kExperts));
  FillVram(store);
  EXPECT_NE(store.cache->Resident(0).parts, nullptr);
  EXPECT_EQ(store.cache->counts().resident, kExperts);
  // But RAM has room for what VRAM has not.
  EXPECT_EQ(store.cache->ExpertsThatFit(TierKind::kRam).size(),
            static_cast<size_t>(kLayers * kExperts));
}

TEST(ResidentLayers, UsesCountAsRequestsDo) {
  TieredStore asked(Roomy());
  TieredStore told(Roomy());
  for (TieredStore* store : {&asked, &told}) {
    for (int round = 0; round < 2; ++round) {
      ASSERT_TRUE(store->Ask(1, AllExperts()).ok());
      store->Rest();
    }
    ASSERT_NE(store->cache->Resident(1).parts, nullptr);
  }
  const std::vector<int32_t> experts = {5, 0, 7};
  ASSERT_TRUE(asked.Ask(1, experts, {1, 2, 1}).ok());
  told.cache->NoteUses(1, experts, std::vector<int32_t>{1, 2, 1});
  ASSERT_TRUE(asked.Ask(1, {2}).ok());
  told.cache->NoteUses(1, std::vector<int32_t>{2}, {});
  const CacheCounts& a = asked.cache->counts();
  const CacheCounts& b = told.cache->counts();
  EXPECT_EQ(a.hits, b.hits);
  EXPECT_EQ(a.vram_hits, b.vram_hits);
  EXPECT_EQ(a.device_experts, b.device_experts);
  EXPECT_EQ(a.misses, b.misses);
  EXPECT_EQ(a.host_experts, b.host_experts);
}

}  // namespace
}  // namespace stoker
