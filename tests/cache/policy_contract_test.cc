// Asks every policy of the registry the same questions.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cache/policy.h"
#include "tests/cache/allocation_count.h"

namespace stoker {
namespace {

constexpr ExpertKey kKeyCount = 40;
constexpr int kSlotCount = 12;

class PolicyContract : public testing::TestWithParam<std::string> {
 protected:
  PolicyContract() {
    for (ExpertKey key = 0; key < kKeyCount; key += 10) layers_.push_back({key, 10});
    for (uint32_t key = 0; key < kKeyCount; ++key) profile_.push_back(key * 7 % 5);
  }
  std::unique_ptr<EvictionPolicy> Make() const {
    return ChoosePolicy(GetParam())
        ->Make({.key_count = kKeyCount,
                .slot_count = kSlotCount,
                .layers = layers_,
                .profile = profile_});
  }

 private:
  std::vector<PolicyShape::Layer> layers_;
  std::vector<uint32_t> profile_;
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
    const uint64_t may_go = random();
    const auto evictable = [&](ExpertKey k) {
      EXPECT_TRUE(resident.contains(k)) << "asked about " << k;
      return (may_go >> k & 1) != 0;
    };
    ExpertKey victim = policy.PickCrowded(key, evictable);
    if (victim >= 0) {
      EXPECT_TRUE(resident.contains(victim) && evictable(victim));
    }
    if (victim < 0 && resident.size() >= kSlotCount) {
      victim = policy.PickVictim(key, evictable);
      check(resident, evictable, victim);
      if (victim < 0) continue;
    }
    if (victim >= 0) {
      policy.Removed(victim);
      resident.erase(victim);
    }
    policy.Inserted(key, random() % 4 == 0 ? Arrival::kHint : Arrival::kDemand);
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

// Two of a kind see the same events; one is also asked, again and again, about what may go.
TEST_P(PolicyContract, PickingChangesNothing) {
  const auto asked = Make();
  const auto plain = Make();
  std::mt19937_64 random(3);
  std::set<ExpertKey> resident;
  const auto all = [](ExpertKey) { return true; };
  for (int i = 0; i < 3000; ++i) {
    const auto key = static_cast<ExpertKey>(random() % kKeyCount);
    const uint64_t may_go = random();
    const auto some = [&](ExpertKey k) { return (may_go >> k & 1) != 0; };
    if (!resident.contains(key)) {
      const ExpertKey first = asked->PickVictim(key, some);
      EXPECT_EQ(asked->PickVictim(key, some), first);
      asked->PickCrowded(key, some);
      asked->PickVictim(key, all);
    }
    if (resident.insert(key).second) {
      const ExpertKey victim = resident.size() > kSlotCount ? plain->PickVictim(key, all) : -1;
      if (victim >= 0) {
        ASSERT_EQ(asked->PickVictim(key, all), victim) << "event " << i;
        asked->Removed(victim);
        plain->Removed(victim);
        resident.erase(victim);
      }
      asked->Inserted(key, Arrival::kDemand);
      plain->Inserted(key, Arrival::kDemand);
    } else {
      asked->Touched(key);
      plain->Touched(key);
    }
  }
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
  for (int round = 0; round < 2000; ++round) {
    for (ExpertKey key = 0; key < 10; ++key) policy->Inserted(key, Arrival::kDemand);
    for (ExpertKey key = 0; key < 10; ++key) policy->Touched(key);
    for (ExpertKey key = 0; key < 10; ++key) {
      policy->Removed(policy->PickVictim(0, [](ExpertKey) { return true; }));
    }
  }
  EXPECT_EQ(allocations.Count(), 0);
}

INSTANTIATE_TEST_SUITE_P(Registry, PolicyContract, testing::ValuesIn(PolicyNames()),
                         [](const auto& row) {
                           std::string name = row.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Policies, UnknownNameListsTheKnownOnes) {
  for (const char* name :
       {"clairvoyant", "clairvoyant-per-layer", "-per-layer", "lru-per-layers"}) {
    const auto choice = ChoosePolicy(name);
    ASSERT_FALSE(choice.ok());
    EXPECT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(choice.status().message().data(), choice.status().message().size());
    EXPECT_NE(message.find("-per-layer"), std::string::npos) << message;
    for (const PolicyRow& known : Policies()) {
      EXPECT_NE(message.find(known.name), std::string::npos) << message;
    }
  }
}

TEST(Policies, EveryNameIsThatOfItsChoice) {
  EXPECT_EQ(PolicyNames().size(), 2 * Policies().size());
  for (const std::string& name : PolicyNames()) EXPECT_EQ(ChoosePolicy(name)->name(), name);
}

TEST(Policies, ParametersAreSetAndChecked) {
  const std::vector<Setting> settings = {{"lfu.uses_per_key", 3.5}, {"s3-fifo.small_share", 0.25}};
  for (const char* name : {"lfu", "lfu-per-layer"}) {
    EXPECT_EQ(ChoosePolicy(name, settings)->values, std::vector<double>{3.5});
  }
  EXPECT_EQ(ChoosePolicy("s3-fifo", settings)->values[0], 0.25);
  EXPECT_EQ(ChoosePolicy("lfu", {{Setting{"lfu.uses_per_key", 0}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ChoosePolicy("lru", {{Setting{"lru.size", 1}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Policies, EveryParameterHasItsDefaultInRangeAndAReason) {
  for (const PolicyRow& row : Policies()) {
    for (const ParameterRow& parameter : row.parameters) {
      SCOPED_TRACE(testing::Message() << row.name << "." << parameter.name);
      EXPECT_LT(parameter.minimum, parameter.maximum);
      EXPECT_FALSE(parameter.reason.empty());
      for (const double value : {parameter.value, parameter.minimum, parameter.maximum}) {
        const Setting setting = {std::string(row.name) + "." + std::string(parameter.name), value};
        const auto choice = ChoosePolicy(row.name, {&setting, 1});
        ASSERT_TRUE(choice.ok()) << choice.status();
        const std::vector<uint32_t> profile(kKeyCount, 1);
        EXPECT_NE(choice->Make({.key_count = kKeyCount, .profile = profile}), nullptr);
      }
    }
  }
}

}  // namespace
}  // namespace stoker
