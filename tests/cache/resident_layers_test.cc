// Layers that are in VRAM for good: when they are, where, and how their uses count.
#include <gtest/gtest.h>

#include <algorithm>
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
