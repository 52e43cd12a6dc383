// What each policy in particular promises.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "cache/policies/per_layer.h"
#include "cache/policy.h"

namespace stoker {
namespace {

constexpr auto kAll = [](ExpertKey) { return true; };

// Ten layers of ten keys: key 37 is the eighth of layer 3.
std::unique_ptr<EvictionPolicy> Make(std::string_view name, int64_t slot_count,
                                     absl::Span<const Setting> settings = {}) {
  std::vector<PolicyShape::Layer> layers;
  for (ExpertKey key = 0; key < 100; key += 10) layers.push_back({key, 10});
  return ChoosePolicy(name, settings)
      ->Make({.key_count = 100, .slot_count = slot_count, .layers = layers});
}

void Insert(EvictionPolicy& policy, std::initializer_list<ExpertKey> keys) {
  for (const ExpertKey key : keys) policy.Inserted(key, Arrival::kDemand);
}
void Touch(EvictionPolicy& policy, std::initializer_list<ExpertKey> keys) {
  for (const ExpertKey key : keys) policy.Touched(key);
}
// Every resident, in the order in which it would be evicted.
std::vector<ExpertKey> Drain(EvictionPolicy& policy, ExpertKey incoming = 99) {
  std::vector<ExpertKey> order;
  for (ExpertKey key = policy.PickVictim(incoming, kAll); key >= 0;
       key = policy.PickVictim(incoming, kAll)) {
    policy.Removed(key);
    order.push_back(key);
  }
  return order;
}

TEST(LruPolicy, OldestUseGoesFirst) {
  const auto policy = Make("lru", 4);
  Insert(*policy, {1, 2, 3});
  Touch(*policy, {1});
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(2, 3, 1));
}

TEST(LfruPolicy, ComparesUsesOverAge) {
  const auto policy = Make("lfru", 4);
  // After 12 events: key 1 has 4 uses, 9 events ago; key 2 has 2, 7 ago; key 3 has 1, 1 ago.
  Insert(*policy, {1});
  Touch(*policy, {1, 1, 1});
  Insert(*policy, {2});
  Touch(*policy, {2});
  Insert(*policy, {4});
  Touch(*policy, {4, 4, 4, 4});
  Insert(*policy, {3});
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(2, 1, 3, 4));  // 2/7 < 4/9 < 1/1 < 5/2
}

TEST(LfruPolicy, GuessNotUsedYetGoesFirst) {
  const auto policy = Make("lfru", 4);
  Insert(*policy, {1});
  policy->Inserted(2, Arrival::kHint);
  EXPECT_EQ(policy->PickVictim(3, kAll), 2);
  Touch(*policy, {2});
  EXPECT_EQ(policy->PickVictim(3, kAll), 1);
}

TEST(LeastStalePolicy, NotUsedInThisPassGoesBeforeUsed) {
  const auto policy = Make("least-stale", 10);
  Insert(*policy, {1, 11, 21, 31});
  Touch(*policy, {1});
  Insert(*policy, {12});  // layer 1 again: it used 12, not 11
  // At layer 2: 11 missed a turn, 21 its present one, which came up later. 1 and 12 had their turns
  // and 31 has it next.
  EXPECT_THAT(Drain(*policy, 22), testing::ElementsAre(21, 11, 12, 1, 31));
}

TEST(LeastStalePolicy, TheMoreTurnsMissedTheSooner) {
  const auto policy = Make("least-stale", 10);
  Insert(*policy, {1, 11, 12});
  for (int pass = 0; pass < 3; ++pass) Touch(*policy, {1, 12});
  Insert(*policy, {0});
  EXPECT_EQ(policy->PickVictim(13, kAll), 11);
}

TEST(LeastStalePolicy, CountsPassesOfAClassWithOneLayer) {
  const auto policy = ChoosePolicy("least-stale")->Make({.key_count = 10, .slot_count = 5});
  Insert(*policy, {1, 2});
  Touch(*policy, {2, 2});
  Insert(*policy, {4});
  EXPECT_EQ(policy->PickVictim(5, kAll), 1);
}

TEST(S3FifoPolicy, NewcomerThatWasNotUsedAgainGoesBeforeOldResidents) {
  const auto policy = Make("s3-fifo", 10);
  Insert(*policy, {1, 2, 3});
  Touch(*policy, {1, 2});
  // The small queue may hold 1 of 10: 1 and 2 earned the main one.
  EXPECT_EQ(policy->PickVictim(50, kAll), 3);
  policy->Removed(3);
  Insert(*policy, {4, 5});
  EXPECT_EQ(policy->PickVictim(50, kAll), 4);
}

TEST(S3FifoPolicy, GhostComesBackToTheMainQueue) {
  const auto policy = Make("s3-fifo", 10);
  Insert(*policy, {1, 2});
  policy->Removed(policy->PickVictim(50, kAll));
  Insert(*policy, {1, 3});                                     // 1 was a ghost
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(2, 1, 3));  // the last of the small queue stays
}

TEST(S3FifoPolicy, NoGhostOfWhatWasNotEvicted) {
  const auto policy = Make("s3-fifo", 10);
  Insert(*policy, {1, 2, 3});
  policy->Removed(1);  // its load failed
  Insert(*policy, {1});
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(2, 3, 1));
}

TEST(S3FifoPolicy, MainQueueGoesAroundUntilUsesAreSpent) {
  const auto policy = Make("s3-fifo", 10);
  Insert(*policy, {1, 2, 3, 4});
  Touch(*policy, {1, 2, 3});
  policy->Removed(policy->PickVictim(50, kAll));  // 4; the others go to the main queue
  Touch(*policy, {1, 1, 2});
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(3, 2, 1));
}

TEST(StaticProfilePolicy, FewestUsesOfEarlierRunsGoFirstAndEqualsByAge) {
  const std::vector<uint32_t> profile = {5, 0, 7, 0, 5};
  const auto policy = ChoosePolicy("static")->Make({.key_count = 5, .profile = profile});
  Insert(*policy, {3, 2, 4, 0, 1});
  Touch(*policy, {3, 2});
  EXPECT_THAT(Drain(*policy), testing::ElementsAre(1, 3, 4, 0, 2));
}

TEST(PerLayerPolicy, QuotasAreInProportionAndUseEverySlot) {
  const std::vector<PolicyShape::Layer> layers = {{0, 40}, {40, 20}, {60, 20}};
  for (int64_t slot_count = 3; slot_count <= 80; ++slot_count) {
    const PerLayerPolicy policy(Policies()[0],
                                {.key_count = 80, .slot_count = slot_count, .layers = layers}, {});
    EXPECT_EQ(policy.quota(0) + policy.quota(1) + policy.quota(2), slot_count);
    for (int l = 0; l < 3; ++l) {
      EXPECT_GE(policy.quota(l), 1);
      EXPECT_LE(policy.quota(l), layers[l].expert_count);
      EXPECT_NEAR(policy.quota(l), slot_count * layers[l].expert_count / 80.0, 1.01);
    }
  }
}

TEST(PerLayerPolicy, QuotaIsAtLeastOneEvenWithFewerSlotsThanLayers) {
  const std::vector<PolicyShape::Layer> layers = {{0, 4}, {4, 4}, {8, 4}};
  const PerLayerPolicy policy(Policies()[0], {.key_count = 12, .slot_count = 2, .layers = layers},
                              {});
  for (int l = 0; l < 3; ++l) EXPECT_EQ(policy.quota(l), 1);
}

TEST(PerLayerPolicy, LayerAtItsQuotaGivesUpItsOwnThoughThereIsRoom) {
  const auto policy = Make("lru-per-layer", 20);
  Insert(*policy, {1, 31, 2});
  EXPECT_EQ(policy->PickCrowded(3, kAll), 1);
  EXPECT_EQ(policy->PickCrowded(32, kAll), -1);
  EXPECT_EQ(policy->PickCrowded(3, [](ExpertKey key) { return key == 31; }), -1);
  policy->Removed(1);
  EXPECT_EQ(policy->PickCrowded(3, kAll), -1);
}

TEST(PerLayerPolicy, LayerAboveItsQuotaGivesWayFirst) {
  const auto policy = Make("lru-per-layer", 20);
  Insert(*policy, {31, 1, 2, 11, 12, 13, 14});  // layer 1 has four, others one and two of two
  EXPECT_EQ(policy->PickVictim(32, kAll), 11);
  EXPECT_EQ(policy->PickVictim(32, [](ExpertKey key) { return key / 10 != 1; }), 31);
  EXPECT_EQ(policy->PickVictim(32, [](ExpertKey key) { return key < 10; }), 1);
}

}  // namespace
}  // namespace stoker
