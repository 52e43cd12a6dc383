// Long random runs of the expert store against a model of it, with faults by seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>

#include "base/status.h"
#include "cache/tier.h"
#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using Wait = ExpertProvider::Wait;

// What a cache without reads, slots or pins does: the policy and the floor, nothing else.
class NaiveCache {
 public:
  NaiveCache(const std::string& policy, const PolicyShape& shape)
      : policy_(ChoosePolicy(policy)->Make(shape)),
        expert_count_(shape.layers[0].expert_count),
        slot_count_(shape.slot_count),
        floor_(shape.layer_floor),
        layer_counts_(shape.layers.size(), 0) {}

  void Request(int layer, const std::vector<int32_t>& experts) {
    std::set<ExpertKey> members;
    for (const int32_t expert : experts) members.insert(layer * expert_count_ + expert);
    for (const int32_t expert : experts) {
      const ExpertKey key = layer * expert_count_ + expert;
      if (resident_.contains(key)) {
        ++hits_;
        policy_->Touched(key);
        continue;
      }
      const auto evictable = [&](ExpertKey k) {
        const int of = k / expert_count_;
        return !members.contains(k) && (of == layer || layer_counts_[of] > floor_);
      };
      ExpertKey victim = policy_->PickCrowded(key, evictable);
      if (victim < 0 && resident() == slot_count_) victim = policy_->PickVictim(key, evictable);
      if (victim >= 0 || resident() == slot_count_) {
        ASSERT_GE(victim, 0);
        policy_->Removed(victim);
        resident_.erase(victim);
        --layer_counts_[victim / expert_count_];
      }
      policy_->Inserted(key, Arrival::kDemand);
      resident_.insert(key);
      ++layer_counts_[layer];
    }
  }
  uint64_t hits() const { return hits_; }
  int64_t resident() const { return static_cast<int64_t>(resident_.size()); }

 private:
  std::unique_ptr<EvictionPolicy> policy_;
  const int expert_count_;
  const int64_t slot_count_;
  const int floor_;
  std::vector<int> layer_counts_;
  std::set<ExpertKey> resident_;
  uint64_t hits_ = 0;
};

std::vector<int32_t> RandomExperts(std::mt19937_64& random, int expert_count, int count) {
  std::vector<int32_t> experts;
  while (static_cast<int>(experts.size()) < count) {
    // The lesser of two: some experts are used more than others, as routers do.
    const auto expert =
        static_cast<int32_t>(std::min(random() % static_cast<uint64_t>(expert_count),
                                      random() % static_cast<uint64_t>(expert_count)));
    if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
      experts.push_back(expert);
    }
  }
  return experts;
}

// Slots suffice for every request, so nothing that the drive does may show in the counts.
TEST(ExpertCacheSimulation, CountsEqualThePolicyDrivenNaively) {
  for (const std::string& policy : PolicyNames()) {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      SCOPED_TRACE(testing::Message() << policy << ", seed " << seed);
      std::mt19937_64 random(seed);
      const int slot_count = 12 + static_cast<int>(random() % 40);
      const int asked_floor = static_cast<int>(random() % 3);
      // A request has at most 6 experts; 4 layers.
      const int floor = std::min(asked_floor, (slot_count - 6) / 3);
      // Whole blocks: FaultReader counts faults in a row by where reads end.
      MemoryStore store({.files = {.expert_count = 16, .part_bytes = {1024, 512}},
                         .slot_count = slot_count,
                         .pins_min = 6,
                         .policy = policy,
                         .layer_floor = asked_floor,
                         .seed = seed,
                         .faults = {.seed = seed,
                                    .short_read = 0.1,
                                    .io_error = 0.1,
                                    .interrupted = 0.05,
                                    .stall = 0.2}});
      std::vector<PolicyShape::Layer> layers;
      for (int l = 0; l < 4; ++l) layers.push_back({.first_key = l * 16, .expert_count = 16});
      const std::vector<uint32_t> profile = MadeUpProfile(64);
      NaiveCache naive(policy, {.key_count = 64,
                                .slot_count = slot_count,
                                .layers = layers,
                                .profile = profile,
                                .layer_floor = floor});
      for (int i = 0; i < 400; ++i) {
        const int layer = i % 4;
        const auto experts = RandomExperts(random, 16, 1 + static_cast<int>(random() % 6));
        naive.Request(layer, experts);
        ASSERT_TRUE(store.Ask(layer, experts).ok());
        ASSERT_EQ(store.cache->counts().hits, naive.hits()) << "request " << i;
        ASSERT_EQ(store.cache->counts().resident, naive.resident());
      }
    }
  }
}

// Everything at once: requests beyond the slots, refs held across requests, errors that last, and
// files in two classes. Each ref's bytes are right for as long as it is held, every expert is
// handed over exactly once, and after an error the store goes on.
class RandomRun {
 public:
  explicit RandomRun(uint64_t seed) : random_(seed), store_(Options(seed)) {}

  void Step(int step) {
    store_.cache->BeginStep(step);
    layer_ = 1 + Below(5);
    pins_max_ = store_.cache->pins_max(layer_);
    while (static_cast<int>(kept_.size()) > Below(pins_max_)) kept_.pop_back();
    if (Below(6) == 0) SetUpFailure();
    const auto experts = RandomExperts(random_, 10, 1 + Below(10));
    requested_ += experts.size();
    seen_.clear();
    ASSERT_TRUE(store_.cache->Request(layer_, experts).ok());
    bool is_over = false;
    absl::Status status;
    while (status.ok() && !is_over) status = CollectSome(is_over);
    if (status.ok()) {
      EXPECT_EQ(seen_, std::set<int32_t>(experts.begin(), experts.end()));
    } else {
      EXPECT_GE(--failures_left_, 0) << status;
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
    CheckRest();
  }

 private:
  int Below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }

  MemoryStoreOptions Options(uint64_t seed) {
    return {.files = {.layer_count = 5,
                      .expert_count = 10,
                      .first_layer = 1,
                      .part_bytes = {700, 90, 1300},
                      .large_layers = Below(4),
                      .start_bytes = random_() % 700,
                      .is_split = Below(2) == 0},
            .slot_count = 2 + Below(12),
            .pins_min = 2,
            .policy = PolicyNames()[seed % PolicyNames().size()],
            .layer_floor = Below(5) - 1,
            .alignment = size_t{1} << Below(11),
            .seed = seed,
            .faults = {.seed = seed, .short_read = 0.2, .stall = 0.2}};
  }

  // At some expert's part, once: an error that is retried, or one that is not.
  void SetUpFailure() {
    const ByteRange range = store_.files.Range({1 + Below(5), Below(10)}, Below(3));
    const bool is_lasting = Below(2) == 0;
    store_.reader.FailRange(range.file, range.offset, range.offset + 1, is_lasting ? ENXIO : EIO,
                            1);
    failures_left_ += is_lasting ? 1 : 0;
  }

  absl::Status CollectSome(bool& is_over) {
    while (static_cast<int>(kept_.size()) >= pins_max_) ReleaseOne();
    std::vector<ExpertRef> refs(1 + Below(pins_max_ - static_cast<int>(kept_.size())));
    const Wait wait = Below(2) == 0 ? Wait::kNo : Wait::kUntilOne;
    ASSIGN_OR_RETURN(const int count, store_.cache->Collect(absl::MakeSpan(refs), wait));
    is_over = count == 0 && store_.cache->outstanding() == 0;
    EXPECT_TRUE(count > 0 || is_over || wait == Wait::kNo);
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(refs[i].id().layer, layer_);
      EXPECT_TRUE(seen_.insert(refs[i].id().expert).second);
      kept_.push_back(std::move(refs[i]));
    }
    for (const ExpertRef& ref : kept_) EXPECT_TRUE(store_.files.Matches(ref));
    while (!kept_.empty() && Below(2) == 0) ReleaseOne();
    return absl::OkStatus();
  }

  void ReleaseOne() { kept_.erase(kept_.begin() + Below(static_cast<int>(kept_.size()))); }

  void CheckRest() const {
    EXPECT_EQ(store_.cache->outstanding(), 0);
    EXPECT_EQ(store_.reader.in_flight(), 0u);
    const CacheCounts& counts = store_.cache->counts();
    EXPECT_EQ(counts.hits + counts.misses, requested_);
    int64_t slot_count = 0;
    for (const SlotClass& c : store_.plan.classes) slot_count += c.slot_count;
    EXPECT_LE(counts.resident, slot_count);
  }

  std::mt19937_64 random_;
  MemoryStore store_;
  std::vector<ExpertRef> kept_;  // also from earlier requests
  std::set<int32_t> seen_;       // of the running request
  int layer_ = 0;
  int pins_max_ = 0;
  uint64_t requested_ = 0;
  int failures_left_ = 0;  // set up and not yet met
};

TEST(ExpertCacheSimulation, RandomRunsKeepEveryPromise) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomRun run(seed);
    for (int step = 0; step < 120; ++step) run.Step(step);
    if (HasFailure()) return;
  }
}

// Checks that slots, keys and counts of a tier tell one story.
void CheckTier(const Tier& tier, const ExpertLayout& layout,
               const std::map<int32_t, std::pair<SlotState, ExpertKey>>& expected) {
  int occupied = 0;
  for (int32_t i = 0; i < tier.pool().slot_count(); ++i) {
    const int32_t slot = tier.pool().first_slot() + i;
    const auto at = expected.find(slot);
    if (at == expected.end()) {
      ASSERT_EQ(tier.pool().state(slot), SlotState::kEmpty);
      continue;
    }
    ++occupied;
    ASSERT_EQ(tier.pool().state(slot), at->second.first);
    ASSERT_EQ(tier.key_in(slot), at->second.second);
    ASSERT_EQ(tier.Find(at->second.second), slot);
  }
  int found = 0;
  for (ExpertKey key = 0; key < layout.key_count(); ++key) found += tier.Find(key) >= 0 ? 1 : 0;
  ASSERT_EQ(found, occupied);
}

TEST(TierSimulation, EachSlotHasExactlyOneState) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const ExpertFiles files({.layer_count = 3, .large_layers = 1});
    const ExpertLayout layout(files.catalog(), files.Alignments(512));
    const std::vector<uint32_t> profile = MadeUpProfile(files.key_count());
    auto tier = *Tier::Create(layout, PlanWithSlots(files, 4, 512),
                              {.policy = *ChoosePolicy(PolicyNames()[seed % PolicyNames().size()]),
                               .profile = profile,
                               .layer_floor = 1,
                               .first_slot = 100});
    std::map<int32_t, std::pair<SlotState, ExpertKey>> expected;
    for (int event = 0; event < 1000; ++event) {
      const auto key = static_cast<ExpertKey>(random() % uint64_t(layout.key_count()));
      const int32_t slot = tier.Find(key);
      if (slot < 0) {
        const Tier::Claimed claimed = tier.Claim(key);
        if (claimed.evicted >= 0) {
          ASSERT_EQ(expected.at(claimed.slot), std::pair(SlotState::kReady, claimed.evicted));
        }
        if (claimed.slot >= 0) expected[claimed.slot] = {SlotState::kLoading, key};
      } else if (expected.at(slot).first == SlotState::kLoading) {
        if (random() % 4 == 0) {
          tier.Failed(slot);
          expected.erase(slot);
        } else {
          tier.Arrived(slot);
          tier.Unkeep(slot);
          expected[slot].first = SlotState::kReady;
        }
      } else if (expected.at(slot).first == SlotState::kReady) {
        tier.Touch(key);
        if (random() % 2 == 0) {
          tier.Pin(slot);
          expected[slot].first = SlotState::kPinned;
        }
      } else {
        tier.Unpin(slot);
        expected[slot].first = SlotState::kReady;
      }
      CheckTier(tier, layout, expected);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(SlotPoolDeathTest, TransitionsAssertTheirStart) {
  const SlotClass classes[] = {{.slot_bytes = 64, .expert_count = 1, .slot_count = 1}};
  SlotPool pool = *SlotPool::Create(classes, 0);
  const auto refuse = [](auto transition) { EXPECT_DEATH(transition(), "check failed"); };
  const auto expect_only = [&](std::set<std::string> legal) {
    if (!legal.contains("arrived")) refuse([&] { pool.Arrived(0); });
    if (!legal.contains("failed")) refuse([&] { pool.Failed(0); });
    if (!legal.contains("pin")) refuse([&] { pool.Pin(0); });
    if (!legal.contains("unpin")) refuse([&] { pool.Unpin(0); });
    if (!legal.contains("evict")) refuse([&] { pool.Evict(0); });
  };
  expect_only({});
  EXPECT_EQ(pool.Claim(0), 0);
  EXPECT_EQ(pool.Claim(0), -1);
  expect_only({"arrived", "failed"});
  pool.Arrived(0);
  expect_only({"pin", "evict"});
  pool.Pin(0);
  expect_only({"pin", "unpin"});
  pool.Unpin(0);
  pool.Evict(0);
  expect_only({});
  EXPECT_EQ(pool.Claim(0), 0);
}

}  // namespace
}  // namespace stoker
