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

// What a cache without reads, slots or pins does: policy, admission and the floor, nothing else.
class NaiveCache {
 public:
  // `shape`: of what is left by the `visitors_max` slots for experts that are not admitted.
  NaiveCache(const std::string& policy, const std::string& admission, const PolicyShape& shape,
             int visitors_max)
      : policy_(ChoosePolicy(policy)->Make(shape)),
        admission_(ChooseAdmission(admission)->Make(shape)),
        expert_count_(shape.layers[0].expert_count),
        slot_count_(shape.slot_count),
        floor_(shape.layer_floor),
        visitors_max_(visitors_max),
        layer_counts_(shape.layers.size(), 0) {}

  void Request(int layer, const std::vector<int32_t>& experts) {
    policy_->BeginRequest();
    if (layer < layer_) ++round_;
    layer_ = layer;
    asked_in_[layer] = round_;
    visitors_ = 0;
    members_.clear();
    for (const int32_t expert : experts) {
      const ExpertKey key = layer * expert_count_ + expert;
      if (resident_.contains(key)) members_.insert(key);
    }
    const std::set<ExpertKey> hits = members_;
    std::vector<ExpertKey> waiting;
    for (const int32_t expert : experts) {
      const ExpertKey key = layer * expert_count_ + expert;
      admission_->Used(key);
      if (hits.contains(key)) {
        ++hits_;
        policy_->Touched(key);
      } else if (!waiting.empty() || !Claim(key, false)) {
        waiting.push_back(key);
      }
    }
    for (const ExpertKey key : waiting) EXPECT_TRUE(Claim(key, true));
  }
  uint64_t hits() const { return hits_; }
  int64_t resident() const { return static_cast<int64_t>(resident_.size()); }

 private:
  // Whether it could be done, members giving way only once they have been used.
  bool Claim(ExpertKey key, bool are_members_done) {
    ExpertKey victim = Pick(key, [&](Evictable e) { return policy_->PickCrowded(key, e); });
    const bool is_full = resident() == slot_count_;
    if (victim < 0 && is_full) {
      victim = Pick(key, [&](Evictable e) { return policy_->PickVictim(key, e); });
    }
    if (victim >= 0 && visitors_max_ > 0 && !admission_->Admits(key, victim)) {
      return ++visitors_ <= visitors_max_ || are_members_done;
    }
    if (victim >= 0) {
      if (members_.contains(victim) && !are_members_done) return false;
      policy_->Removed(victim);
      resident_.erase(victim);
      members_.erase(victim);
      --layer_counts_[victim / expert_count_];
    } else if (is_full) {
      return false;
    }
    policy_->Inserted(key, Arrival::kDemand);
    resident_.insert(key);
    members_.insert(key);
    claims_[key] = ++claim_count_;
    ++layer_counts_[layer_];
    return true;
  }

  // Bystanders, then members but the last eight claimed, the last four, ...
  template <typename Ask>
  ExpertKey Pick(ExpertKey /*incoming*/, Ask ask) {
    ExpertKey victim = ask([&](ExpertKey k) {
      const int of = k / expert_count_;
      const bool is_idle = round_ - asked_in_[of] > 8;
      return !members_.contains(k) && (of == layer_ || layer_counts_[of] > floor_ || is_idle);
    });
    for (const int64_t spared : {8, 4, 2, 1, 0}) {
      if (victim >= 0) break;
      victim = ask(
          [&](ExpertKey k) { return members_.contains(k) && claims_[k] <= claim_count_ - spared; });
    }
    return victim;
  }

  std::unique_ptr<EvictionPolicy> policy_;
  std::unique_ptr<AdmissionPolicy> admission_;
  const int expert_count_;
  const int64_t slot_count_;
  const int floor_;
  const int visitors_max_;
  std::vector<int> layer_counts_;
  std::set<ExpertKey> resident_;
  std::set<ExpertKey> members_;  // of the running request
  std::map<ExpertKey, int64_t> claims_;
  int64_t claim_count_ = 0;
  int layer_ = 0;
  int round_ = 0;
  std::map<int, int> asked_in_;  // round, by layer
  int visitors_ = 0;
  uint64_t hits_ = 0;
};

std::vector<std::string> AdmissionNames() {
  std::vector<std::string> names;
  for (const AdmissionRow& row : Admissions()) names.emplace_back(row.name);
  return names;
}

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

// How the store and its naive twin are made for a seed: some requests are for more experts than
// there are slots.
struct Sizes {
  explicit Sizes(uint64_t seed, const std::string& admission) {
    std::mt19937_64 random(seed);
    slot_count = 4 + static_cast<int>(random() % 50);
    asked_floor = static_cast<int>(random() % 3);
    pins_min = 1 + static_cast<int>(random() % 4);
    visitors_max = admission == "always"
                       ? 0
                       : std::min(std::clamp(slot_count / 8, 1, 8), slot_count - pins_min);
    for (int l = 0; l < 4; ++l) layers.push_back({.first_key = l * 16, .expert_count = 16});
    const int left = slot_count - visitors_max;
    shape = {.key_count = 64,
             .slot_count = left,
             .layers = layers,
             .profile = profile,
             .layer_floor = std::min(asked_floor, (left - pins_min) / 3)};
  }
  int slot_count = 0;
  int asked_floor = 0;
  int pins_min = 0;
  int visitors_max = 0;
  std::vector<PolicyShape::Layer> layers;
  std::vector<uint32_t> profile = MadeUpProfile(64);
  PolicyShape shape;
};

// Nothing that the drive does may show in the counts: neither which read was faster nor that one
// had to be done again.
void CompareWithNaive(const std::string& policy, const std::string& admission, uint64_t seed) {
  const Sizes sizes(seed, admission);
  // Whole blocks: FaultReader counts faults in a row by where reads end.
  MemoryStore store(
      {.files = {.expert_count = 16, .part_bytes = {1024, 512}},
       .slot_count = sizes.slot_count,
       .pins_min = sizes.pins_min,
       .policy = policy,
       .admission = admission,
       .layer_floor = sizes.asked_floor,
       .seed = seed,
       .faults = {
           .seed = seed, .short_read = 0.1, .io_error = 0.1, .interrupted = 0.05, .stall = 0.2}});
  NaiveCache naive(policy, admission, sizes.shape, sizes.visitors_max);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 400; ++i) {
    const int layer = i % 4;
    const int count = 1 + static_cast<int>(random() % (i % 10 == 0 ? 16 : 6));
    const auto experts = RandomExperts(random, 16, count);
    naive.Request(layer, experts);
    ASSERT_TRUE(store.Ask(layer, experts).ok());
    ASSERT_EQ(store.cache->counts().hits, naive.hits()) << "request " << i;
    ASSERT_EQ(store.cache->counts().resident, naive.resident()) << "request " << i;
  }
}

TEST(ExpertCacheSimulation, CountsEqualThePolicyDrivenNaively) {
  for (const std::string& policy : PolicyNames()) {
    for (const std::string& admission : AdmissionNames()) {
      for (uint64_t seed = 1; seed <= 8; ++seed) {
        SCOPED_TRACE(testing::Message() << policy << ", " << admission << ", seed " << seed);
        CompareWithNaive(policy, admission, seed);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

// Hits, misses, evictions and residents after each of a run's requests.
std::vector<uint64_t> History(const MemoryStoreOptions& options, int batch) {
  MemoryStore store(options);
  std::mt19937_64 random(5);  // the requests
  std::vector<uint64_t> history;
  for (int i = 0; i < 200; ++i) {
    const auto experts = RandomExperts(random, 16, 1 + static_cast<int>(random() % 16));
    EXPECT_TRUE(store.cache->Request(i % 4, experts).ok());
    while (store.cache->outstanding() > 0) {
      std::vector<ExpertRef> refs(batch);
      EXPECT_TRUE(store.cache->Collect(absl::MakeSpan(refs), Wait::kUntilOne).ok());
    }
    const CacheCounts& counts = store.cache->counts();
    for (const uint64_t count : {counts.hits, counts.misses, counts.evictions}) {
      history.push_back(count);
    }
    history.push_back(static_cast<uint64_t>(counts.resident));
  }
  for (int key = 0; key < 64; ++key) history.push_back(store.Hits(key / 16, key % 16) ? 1 : 0);
  return history;
}

// Reads complete in another order for each seed of the reader, and refs are released sooner or
// later; requests are for up to twice the slots.
TEST(ExpertCacheSimulation, WhoHitsDoesNotDependOnWhichReadWasFaster) {
  for (const std::string& policy : PolicyNames()) {
    for (const std::string& admission : AdmissionNames()) {
      SCOPED_TRACE(policy + ", " + admission);
      MemoryStoreOptions options = {.files = {.expert_count = 16, .part_bytes = {1024, 512}},
                                    .slot_count = 11,
                                    .pins_min = 4,
                                    .policy = policy,
                                    .admission = admission,
                                    .layer_floor = -1};
      const std::vector<uint64_t> expected = History(options, 1);
      for (uint64_t seed = 2; seed <= 5; ++seed) {
        options.seed = seed;
        options.faults = {.seed = seed, .short_read = 0.2, .stall = 0.5};
        ASSERT_EQ(History(options, 1 + static_cast<int>(seed % 4)), expected) << "seed " << seed;
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
            .admission = AdmissionNames()[seed % AdmissionNames().size()],
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
