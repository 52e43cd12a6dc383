// The policy that follows the others: whom, when, and what becomes of residents.
#include "cache/policies/auto.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cache/policy.h"

namespace stoker {
namespace {

constexpr auto kAll = [](ExpertKey) { return true; };
constexpr int kLayerCount = 4;
constexpr int kExpertCount = 16;

class Numbers final : public CounterVisitor {
 public:
  explicit Numbers(const EvictionPolicy& policy) { policy.Report(*this); }
  void Counter(std::string_view name, uint64_t value) override {
    values_[std::string(name)] = static_cast<double>(value);
  }
  void Gauge(std::string_view name, double value) override { values_[std::string(name)] = value; }
  double operator[](const std::string& name) const { return values_.at(name); }
  // The one that is followed.
  std::string followed() const {
    std::string followed;
    for (const auto& [name, value] : values_) {
      if (name.rfind("auto_follows_", 0) == 0 && value == 1) followed += name.substr(13);
    }
    return followed;
  }

 private:
  std::map<std::string, double> values_;
};

const Setting kNeverSwitch[] = {{"auto.lead", 0.5}, {"auto.window_per_key", 256}};

// A cache that requests are played on, and may exceed quotas while they run.
class Cache {
 public:
  Cache(std::string_view policy, int64_t slot_count, absl::Span<const Setting> settings = {})
      : slot_count_(slot_count) {
    std::vector<PolicyShape::Layer> layers;
    for (int l = 0; l < kLayerCount; ++l) layers.push_back({l * kExpertCount, kExpertCount});
    policy_ = ChoosePolicy(policy, settings)
                  ->Make({.key_count = kLayerCount * kExpertCount,
                          .slot_count = slot_count,
                          .layers = layers,
                          .quotas_bind_requests = false});
  }
  void Request(const std::vector<ExpertKey>& keys) {
    policy_->BeginRequest();
    for (const ExpertKey key : keys) {
      ++uses_;
      if (resident_.contains(key)) {
        ++hits_;
        policy_->Touched(key);
        continue;
      }
      const auto may_go = [&](ExpertKey k) {
        return std::find(keys.begin(), keys.end(), k) == keys.end();
      };
      ExpertKey victim = policy_->PickCrowded(key, may_go);
      if (victim < 0 && static_cast<int64_t>(resident_.size()) == slot_count_) {
        victim = policy_->PickVictim(key, may_go);
      }
      if (victim >= 0) {
        policy_->Removed(victim);
        resident_.erase(victim);
      }
      policy_->Inserted(key, Arrival::kDemand);
      resident_.insert(key);
    }
  }
  EvictionPolicy& policy() { return *policy_; }
  double hit_rate() const { return static_cast<double>(hits_) / static_cast<double>(uses_); }

 private:
  const int64_t slot_count_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::set<ExpertKey> resident_;
  int64_t hits_ = 0;
  int64_t uses_ = 0;
};

// Each layer uses one of two experts of its own in turn, of sets that change every `period` passes.
void PlayRecent(Cache& cache, int passes, int period) {
  std::mt19937_64 random(9);
  std::vector<ExpertKey> first(kLayerCount);
  for (int pass = 0; pass < passes; ++pass) {
    for (int l = 0; l < kLayerCount; ++l) {
      if (pass % period == 0) first[l] = static_cast<ExpertKey>(random() % (kExpertCount - 1));
      cache.Request({l * kExpertCount + first[l] + pass % 2});
    }
  }
}

// Two experts of each layer are used often, the rest in turn, once in a long while.
void PlayFrequent(Cache& cache, int passes) {
  for (int pass = 0; pass < passes; ++pass) {
    for (int l = 0; l < kLayerCount; ++l) {
      const ExpertKey first = l * kExpertCount;
      if (pass % 3 == 0) {
        cache.Request({first + pass % 2});
      } else {
        cache.Request({first + 2 + pass % 14});
      }
    }
  }
}

double HitRate(const std::string& policy, bool is_frequent) {
  Cache cache(policy, 8);
  if (is_frequent) {
    PlayFrequent(cache, 2000);
  } else {
    PlayRecent(cache, 2000, 12);
  }
  return cache.hit_rate();
}

TEST(AutoPolicy, IsNearlyAsGoodAsTheBestOnEitherKindOfStream) {
  for (const bool is_frequent : {false, true}) {
    const double lru = HitRate("lru", is_frequent);
    const double lfu = HitRate("lfu", is_frequent);
    EXPECT_GT(std::abs(lru - lfu), 0.05);  // or the stream tells nothing
    EXPECT_GT(HitRate("auto", is_frequent), std::max(lru, lfu) - 0.02);
  }
}

// Four experts at once, best ranks first, over two slots a layer; low numbers are used more often.
void PlayWide(Cache& cache, int passes) {
  std::mt19937_64 random(5);
  for (int pass = 0; pass < passes; ++pass) {
    for (int l = 0; l < kLayerCount; ++l) {
      std::vector<ExpertKey> keys;
      while (keys.size() < 4) {
        const uint64_t expert =
            std::min({random() % kExpertCount, random() % kExpertCount, random() % kExpertCount});
        const auto key = l * kExpertCount + static_cast<ExpertKey>(expert);
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
      }
      cache.Request(keys);
    }
  }
}

TEST(AutoPolicy, IsNearlyAsGoodAsTheBestWhereARequestIsWiderThanAQuota) {
  Cache best("lfu-per-layer", 2 * kLayerCount);
  Cache recent("lru-per-layer", 2 * kLayerCount);
  Cache followed("auto", 2 * kLayerCount);
  for (Cache* cache : {&best, &recent, &followed}) PlayWide(*cache, 3000);
  EXPECT_GT(best.hit_rate(), recent.hit_rate() + 0.02);  // or the stream tells nothing
  EXPECT_GT(followed.hit_rate(), best.hit_rate() - 0.004);
}

TEST(AutoPolicy, SwitchesWhenTheStreamChangesAndSaysWhomItFollows) {
  Cache cache("auto", 8);
  PlayFrequent(cache, 1000);
  const Numbers before(cache.policy());
  EXPECT_FALSE(before.followed().empty());
  PlayRecent(cache, 1000, 12);
  const Numbers after(cache.policy());
  EXPECT_NE(after.followed(), before.followed());
  EXPECT_GT(after["auto_switches"], before["auto_switches"]);
}

TEST(AutoPolicy, DoesNotSwitchForLessThanTheLead) {
  Cache cache("auto", 8, kNeverSwitch);
  PlayFrequent(cache, 500);
  PlayRecent(cache, 500, 12);
  const Numbers numbers(cache.policy());
  EXPECT_EQ(numbers["auto_switches"], 0);
  EXPECT_EQ(numbers.followed(), "lfu");
}

// Before it has switched it is lfu, victim by victim.
TEST(AutoPolicy, HoldsWhatTheFollowedOneHolds) {
  Cache cache("auto", 8, kNeverSwitch);
  Cache lfu("lfu", 8);
  for (Cache* either : {&cache, &lfu}) {
    PlayFrequent(*either, 500);
    PlayRecent(*either, 500, 12);
  }
  EXPECT_EQ(cache.hit_rate(), lfu.hit_rate());
}

TEST(AutoPolicy, GuessIsSparedUntilAsManyUsesAsSlotsHaveGoneBy) {
  Cache cache("auto", 4);
  EvictionPolicy& policy = cache.policy();
  policy.Inserted(40, Arrival::kHint);
  for (const ExpertKey key : {1, 17, 33}) policy.Inserted(key, Arrival::kDemand);
  EXPECT_NE(policy.PickVictim(50, kAll), 40);
  for (const ExpertKey key : {1, 17, 33}) policy.Touched(key);
  EXPECT_EQ(policy.PickVictim(50, kAll), 40);
  policy.Touched(40);  // it was right
  EXPECT_NE(policy.PickVictim(50, kAll), 40);
}

TEST(AutoPolicy, PlaysTheStaticPolicyOnlyWithAProfile) {
  const std::vector<uint32_t> profile(8, 1);
  for (const bool has_profile : {false, true}) {
    const auto policy = ChoosePolicy("auto")->Make(
        {.key_count = 8, .profile = has_profile ? profile : absl::Span<const uint32_t>()});
    struct Names final : CounterVisitor {
      void Counter(std::string_view, uint64_t) override {}
      void Gauge(std::string_view name, double) override { all.emplace(name); }
      std::set<std::string> all;
    } names;
    policy->Report(names);
    EXPECT_EQ(names.all.contains("auto_follows_static"), has_profile);
    EXPECT_TRUE(names.all.contains("auto_follows_lru"));
    EXPECT_FALSE(names.all.contains("auto_follows_auto"));
  }
}

}  // namespace
}  // namespace stoker
