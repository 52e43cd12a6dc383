// Asks every policy of the registry the same questions.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "tests/cache/allocation_count.h"

namespace stoker {
namespace {

constexpr ExpertKey kKeyCount = 40;

class PolicyContract : public testing::TestWithParam<const PolicyRow*> {
 protected:
  std::unique_ptr<EvictionPolicy> Make() const {
    return PolicyChoice{.row = GetParam()}.Make({.key_count = kKeyCount});
  }
};

// Plays seeded events on a policy and calls `check` with the residents and each victim picked.
template <typename Check>
void Play(EvictionPolicy& policy, uint64_t seed, int event_count, Check check) {
  std::mt19937_64 random(seed);
  std::set<ExpertKey> resident;
  for (int i = 0; i < event_count; ++i) {
    const ExpertKey key = static_cast<ExpertKey>(random() % kKeyCount);
    if (resident.contains(key)) {
      if (random() % 8 != 0) {
        policy.Touched(key);
      } else {
        policy.Removed(key);
        resident.erase(key);
      }
      continue;
    }
    if (resident.size() >= 12) {
      const uint64_t may_go = random();
      const auto evictable = [&](ExpertKey k) { return (may_go >> k & 1) != 0; };
      const ExpertKey victim = policy.PickVictim(0, evictable);
      check(resident, evictable, victim);
      if (victim < 0) continue;
      policy.Removed(victim);
      resident.erase(victim);
    }
    policy.Inserted(key, Arrival::kDemand);
    resident.insert(key);
  }
}

TEST_P(PolicyContract, VictimIsResidentAndEvictableAndFoundIfThereIsOne) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const auto policy = Make();
    Play(*policy, seed, 2000, [](const auto& resident, const auto& evictable, ExpertKey victim) {
      if (victim >= 0) {
        EXPECT_TRUE(resident.contains(victim));
        EXPECT_TRUE(evictable(victim));
        return;
      }
      for (const ExpertKey key : resident) EXPECT_FALSE(evictable(key));
    });
  }
}

TEST_P(PolicyContract, PickingTwiceGivesTheSameVictim) {
  const auto policy = Make();
  for (ExpertKey key = 0; key < 10; ++key) policy->Inserted(key, Arrival::kDemand);
  policy->Touched(3);
  const auto all = [](ExpertKey) { return true; };
  EXPECT_EQ(policy->PickVictim(0, all), policy->PickVictim(0, all));
}

TEST_P(PolicyContract, EmptyHasNoVictim) {
  EXPECT_EQ(Make()->PickVictim(0, [](ExpertKey) { return true; }), -1);
}

TEST_P(PolicyContract, RemovedIsNotPickedAgain) {
  const auto policy = Make();
  for (ExpertKey key = 0; key < kKeyCount; ++key) policy->Inserted(key, Arrival::kDemand);
  std::set<ExpertKey> picked;
  for (ExpertKey i = 0; i < kKeyCount; ++i) {
    const ExpertKey victim = policy->PickVictim(0, [](ExpertKey) { return true; });
    EXPECT_TRUE(picked.insert(victim).second);
    policy->Removed(victim);
  }
  EXPECT_EQ(policy->PickVictim(0, [](ExpertKey) { return true; }), -1);
}

TEST_P(PolicyContract, ReplaysTheSame) {
  std::vector<ExpertKey> runs[2];
  for (auto& victims : runs) {
    const auto policy = Make();
    Play(*policy, 7, 5000,
         [&](const auto&, const auto&, ExpertKey victim) { victims.push_back(victim); });
  }
  EXPECT_EQ(runs[0], runs[1]);
  EXPECT_GT(runs[0].size(), 100u);
}

TEST_P(PolicyContract, TakesItsMemoryAtConstruction) {
  const auto policy = Make();
  const AllocationCount allocations;
  for (int round = 0; round < 200; ++round) {
    for (ExpertKey key = 0; key < 10; ++key) policy->Inserted(key, Arrival::kDemand);
    for (ExpertKey key = 0; key < 10; ++key) policy->Touched(key);
    for (ExpertKey key = 0; key < 10; ++key) {
      policy->Removed(policy->PickVictim(0, [](ExpertKey) { return true; }));
    }
  }
  EXPECT_EQ(allocations.Count(), 0);
}

INSTANTIATE_TEST_SUITE_P(Registry, PolicyContract, testing::ValuesIn([] {
                           std::vector<const PolicyRow*> rows;
                           for (const PolicyRow& row : Policies()) rows.push_back(&row);
                           return rows;
                         }()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST(Policies, UnknownNameListsTheKnownOnes) {
  const auto row = ChoosePolicy("clairvoyant");
  ASSERT_FALSE(row.ok());
  EXPECT_EQ(row.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(row.status().message().data(), row.status().message().size());
  for (const PolicyRow& known : Policies()) {
    EXPECT_NE(message.find(known.name), std::string::npos) << message;
    EXPECT_EQ((*ChoosePolicy(known.name)).row->name, known.name);
  }
}

}  // namespace
}  // namespace stoker
