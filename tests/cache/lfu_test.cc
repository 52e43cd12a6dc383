// Frequencies fade, and equals go by age.
#include "cache/policies/lfu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

namespace stoker {
namespace {

constexpr auto kAll = [](ExpertKey) { return true; };
constexpr int kUsesPerKey = 2;

std::unique_ptr<EvictionPolicy> MakeLfu(ExpertKey key_count) {
  return ChoosePolicy("lfu")->Make({.key_count = key_count});
}

TEST(LfuPolicy, LeastUsedGoesFirst) {
  const auto policy = MakeLfu(100);
  for (ExpertKey key = 0; key < 4; ++key) policy->Inserted(key, Arrival::kDemand);
  policy->Touched(0);
  policy->Touched(1);
  policy->Touched(3);
  EXPECT_EQ(policy->PickVictim(0, kAll), 2);
}

TEST(LfuPolicy, AmongEqualsTheOldestUseGoesFirst) {
  const auto policy = MakeLfu(100);
  for (const ExpertKey key : {5, 3, 9}) policy->Inserted(key, Arrival::kDemand);
  EXPECT_EQ(policy->PickVictim(0, kAll), 5);
  for (const ExpertKey key : {5, 9, 3}) policy->Touched(key);
  EXPECT_EQ(policy->PickVictim(0, kAll), 5);
  policy->Removed(5);
  EXPECT_EQ(policy->PickVictim(0, kAll), 9);
}

TEST(LfuPolicy, CountsOutliveEviction) {
  const auto policy = MakeLfu(100);
  policy->Inserted(1, Arrival::kDemand);
  policy->Touched(1);
  policy->Touched(1);
  policy->Removed(1);
  policy->Inserted(2, Arrival::kDemand);
  policy->Touched(2);
  policy->Inserted(1, Arrival::kDemand);
  EXPECT_EQ(policy->PickVictim(0, kAll), 2);
}

TEST(LfuPolicy, OldFameFades) {
  const auto policy = MakeLfu(10);
  policy->Inserted(0, Arrival::kDemand);
  for (int use = 0; use < 50; ++use) policy->Touched(0);
  policy->Inserted(1, Arrival::kDemand);
  // Ten times as many uses as any count of key 0 survives, all by others.
  policy->Inserted(2, Arrival::kDemand);
  for (int use = 0; use < 500; ++use) policy->Touched(1 + use % 2);
  EXPECT_EQ(policy->PickVictim(0, kAll), 0);
}

// The rule as the header tells it, without lists.
class PlainLfu {
 public:
  explicit PlainLfu(int key_count) : key_count_(key_count) {}
  void Use(ExpertKey key) {
    if (uses_ > 0 && uses_ % (kUsesPerKey * key_count_) == 0) {
      for (auto& [k, count] : counts_) count /= 2;
    }
    counts_[key] = std::min(counts_[key] + 1, CountedLists::kCountMax);
    last_use_[key] = ++uses_;
    resident_.insert(key);
  }
  void Remove(ExpertKey key) { resident_.erase(key); }
  ExpertKey Victim() {
    return *std::min_element(resident_.begin(), resident_.end(), [&](ExpertKey a, ExpertKey b) {
      return std::tie(counts_[a], last_use_[a]) < std::tie(counts_[b], last_use_[b]);
    });
  }
  const std::set<ExpertKey>& resident() const { return resident_; }

 private:
  const int64_t key_count_;
  int64_t uses_ = 0;
  std::map<ExpertKey, int> counts_;
  std::map<ExpertKey, int64_t> last_use_;
  std::set<ExpertKey> resident_;
};

TEST(LfuPolicy, EqualsThePlainRuleThroughManyHalvings) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const auto policy = MakeLfu(20);
    PlainLfu plain(20);
    for (int i = 0; i < 3000; ++i) {
      // Skewed, so that counts differ and some saturate between halvings.
      const ExpertKey key = static_cast<ExpertKey>(std::min(random() % 20, random() % 20));
      const bool is_resident = plain.resident().contains(key);
      if (!is_resident && plain.resident().size() == 8) {
        const ExpertKey victim = plain.Victim();
        ASSERT_EQ(policy->PickVictim(0, kAll), victim) << "event " << i;
        policy->Removed(victim);
        plain.Remove(victim);
      }
      is_resident ? policy->Touched(key) : policy->Inserted(key, Arrival::kDemand);
      plain.Use(key);
    }
  }
}

TEST(LfuPolicy, CountsSaturate) {
  const auto policy = MakeLfu(1000);
  policy->Inserted(0, Arrival::kDemand);
  policy->Inserted(1, Arrival::kDemand);
  for (int use = 0; use < 400; ++use) policy->Touched(0);
  for (int use = 0; use < 300; ++use) policy->Touched(1);
  // Both are at kCountMax: the older use goes.
  EXPECT_EQ(policy->PickVictim(0, kAll), 0);
}

}  // namespace
}  // namespace stoker
