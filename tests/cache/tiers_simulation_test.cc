// Long random runs of the expert store over VRAM and RAM, on a modelled device, with faults by
// seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/cache/tiered_store.h"

namespace stoker {
namespace {

using Wait = ExpertProvider::Wait;

// Requests beyond the slots of either tier, refs of both places held across requests, kernels that
// read experts later than they were handed over, reads that fail, in two size classes.
class TieredRun {
 public:
  explicit TieredRun(uint64_t seed, int hint_loads_max = 0)
      : random_(seed), has_hints_(hint_loads_max > 0), store_(Options(seed, hint_loads_max)) {}
  ~TieredRun() { kept_.clear(); }

  void Step(int step) {
    store_.cache->BeginStep(step);
    layer_ = 1 + Below(5);
    pins_max_ = store_.cache->pins_max(layer_);
    while (static_cast<int>(kept_.size()) > Below(pins_max_)) kept_.pop_back();
    if (Below(8) == 0) SetUpFailure();
    std::vector<int32_t> experts;
    std::vector<int32_t> rows;
    for (int32_t e = 0; e < 10; ++e) {
      if (Below(3) == 0) experts.push_back(std::min(e, 9));
    }
    std::shuffle(experts.begin(), experts.end(), random_);
    for (size_t i = 0; i < experts.size(); ++i) rows.push_back(1 + Below(30));
    if (has_hints_) Guess(experts);
    requested_ += experts.size();
    seen_.clear();
    ASSERT_TRUE(store_.cache->Request(layer_, experts, rows).ok());
    bool is_over = false;
    absl::Status status;
    while (status.ok() && !is_over) status = CollectSome(is_over);
    if (status.ok()) {
      EXPECT_EQ(seen_, std::set<int32_t>(experts.begin(), experts.end()));
    } else {
      EXPECT_GE(--failures_left_, 0) << status;
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
    CheckCounts();
  }

  void CheckRest() {
    kept_.clear();
    store_.Rest();
    const CacheCounts& counts = store_.cache->counts();
    EXPECT_EQ(store_.wrong_bytes, 0);
    EXPECT_EQ(store_.Gauge("cache_vram_resident") + store_.Gauge("cache_ram_resident"),
              static_cast<double>(counts.resident));
  }
  // What happened, in a form that is equal only if it happened in the same order.
  uint64_t history() const { return history_; }
  const CacheCounts& counts() const { return store_.cache->counts(); }
  int computed() const { return store_.computed; }

 private:
  int Below(int limit) { return static_cast<int>(random_() % static_cast<uint64_t>(limit)); }
  double Rate() { return 1e8 * (1 + Below(100)); }

  TieredStoreOptions Options(uint64_t seed, int hint_loads_max) {
    TieredStoreOptions options;
    options.hint_loads_max = hint_loads_max;
    options.files = {.layer_count = 5,
                     .expert_count = 10,
                     .first_layer = 1,
                     .part_bytes = {700, 90, 1300},
                     .large_layers = Below(4),
                     .start_bytes = random_() % 700,
                     .is_split = Below(2) == 0};
    options.vram_slot_count = 1 + Below(Below(4) == 0 ? 60 : 14);
    options.ram_slot_count = 2 + Below(12);
    options.pins_min = 2;
    options.place = static_cast<PlaceRule>(Below(4));
    options.rates = {.host = Rate(), .host_row = Rate(), .copy_in = Rate()};
    const std::vector<std::string> policies = PolicyNames();
    options.vram_policy = policies[static_cast<size_t>(Below(static_cast<int>(policies.size())))];
    options.policy = policies[static_cast<size_t>(Below(static_cast<int>(policies.size())))];
    options.admission = Admissions()[static_cast<size_t>(Below(3))].name;
    options.layer_floor = Below(4) - 1;
    options.alignment = size_t{1} << Below(11);
    options.seed = seed;
    options.faults = {.seed = seed, .short_read = 0.2, .stall = 0.2};
    // Slow links have several requests go by before a copy has ended.
    const double slowness = Below(3) == 0 ? 0.01 : 1;
    options.device_rates = {.copy_in_bytes_per_second = Rate() * slowness,
                            .copy_out_bytes_per_second = Rate() * slowness};
    return options;
  }

  // Half of what comes, and anything for any layer.
  void Guess(std::vector<int32_t> experts) {
    experts.resize(experts.size() / 2);
    store_.cache->Guess(layer_, experts);
    store_.cache->Guess(1 + Below(5), {{Below(5), 5 + Below(5)}});
    for (int i = Below(4); i > 0; --i) store_.cache->IssueHints();
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
    for (int i = 0; i < count; ++i) TakeOver(std::move(refs[i]));
    for (const ExpertRef& ref : kept_) EXPECT_TRUE(store_.files.Matches(ref));
    while (!kept_.empty() && Below(2) == 0) ReleaseOne();
    store_.clock.AdvanceNs(Below(3) * 2000);
    return absl::OkStatus();
  }

  void TakeOver(ExpertRef ref) {
    EXPECT_EQ(ref.id().layer, layer_);
    EXPECT_TRUE(seen_.insert(ref.id().expert).second);
    const bool is_on_device = ref.place() == ExpertPlace::kDevice;
    history_ = history_ * 31 + static_cast<uint64_t>(ref.id().expert) * 2 + (is_on_device ? 1 : 0);
    if (is_on_device && Below(3) > 0) {
      store_.Compute(std::move(ref), static_cast<uint64_t>(1 + Below(20'000'000)));
      return;
    }
    if (is_on_device) {
      EXPECT_TRUE(store_.device->Await(ref.ready()).ok());
    } else if (Below(2) == 0) {
      store_.cache->NoteHostCompute(1 << 20, uint64_t{1} << (20 + Below(5)), 1 + Below(1 << 20));
    }
    kept_.push_back(std::move(ref));
  }

  void ReleaseOne() { kept_.erase(kept_.begin() + Below(static_cast<int>(kept_.size()))); }

  void CheckCounts() const {
    EXPECT_EQ(store_.cache->outstanding(), 0);
    if (!has_hints_) {
      EXPECT_EQ(store_.reader.in_flight(), 0u);
    }
    const CacheCounts& counts = store_.cache->counts();
    EXPECT_EQ(counts.hits + counts.misses, requested_);
    EXPECT_LE(counts.vram_hits, counts.hits);
    EXPECT_LE(counts.host_experts + counts.device_experts, requested_);
  }

  std::mt19937_64 random_;
  const bool has_hints_;
  TieredStore store_;
  std::vector<ExpertRef> kept_;  // also from earlier requests
  std::set<int32_t> seen_;       // of the running request
  int layer_ = 0;
  int pins_max_ = 0;
  uint64_t requested_ = 0;
  uint64_t history_ = 0;
  int failures_left_ = 0;  // set up and not yet met
};

TEST(TiersSimulation, RandomRunsKeepEveryPromise) {
  uint64_t copied_in_bytes = 0;
  uint64_t copied_out_bytes = 0;
  int computed = 0;
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TieredRun run(seed);
    for (int step = 0; step < 150; ++step) run.Step(step);
    run.CheckRest();
    copied_in_bytes += run.counts().copied_in_bytes;
    copied_out_bytes += run.counts().copied_out_bytes;
    computed += run.computed();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(copied_in_bytes, 0u);
  EXPECT_GT(copied_out_bytes, 0u);
  EXPECT_GT(computed, 10'000);
}

TEST(TiersSimulation, GuessesBreakNoPromise) {
  HintCounts sum;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TieredRun run(seed, 1 + static_cast<int>(seed % 3));
    for (int step = 0; step < 150; ++step) run.Step(step);
    run.CheckRest();
    sum.used += run.counts().hints.used;
    sum.late += run.counts().hints.late;
    sum.wasted += run.counts().hints.wasted;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(sum.used, 100u);
  EXPECT_GT(sum.late, 100u);
  EXPECT_GT(sum.wasted, 100u);
}

TEST(TiersSimulation, RunsReplayExactly) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    TieredRun first(seed, static_cast<int>(seed % 2));
    TieredRun second(seed, static_cast<int>(seed % 2));
    for (int step = 0; step < 60; ++step) {
      first.Step(step);
      second.Step(step);
      ASSERT_EQ(first.history(), second.history()) << "seed " << seed << ", step " << step;
    }
    EXPECT_EQ(first.counts().copied_in_bytes, second.counts().copied_in_bytes);
    EXPECT_EQ(first.counts().wait_ns, second.counts().wait_ns);
  }
}

// The device may fail at any operation: the request that notices it and all later ones say so, and
// nothing hangs or breaks.
TEST(TiersSimulation, FailedDeviceEndsEveryRequestWithItsError) {
  int failed = 0;
  for (uint64_t nth = 1; nth <= 150; ++nth) {
    SCOPED_TRACE(testing::Message() << "operation " << nth);
    TieredStore store({.vram_slot_count = 5,
                       .ram_slot_count = 4,
                       .place = static_cast<PlaceRule>(nth % 4),
                       .seed = nth});
    store.device->FailOperation(nth);
    std::mt19937_64 random(nth);
    absl::Status status;
    for (int step = 0; step < 60 && status.ok(); ++step) {
      std::vector<int32_t> experts;
      for (int32_t e = 0; e < 8; ++e) {
        if (random() % 2 == 0) experts.push_back(e);
      }
      status = store.Ask(static_cast<int>(random() % 4), experts).status();
      store.clock.AdvanceNs(5000);
    }
    EXPECT_EQ(store.wrong_bytes, 0);
    if (status.ok()) continue;
    ++failed;
    EXPECT_EQ(store.cache->outstanding(), 0);
    EXPECT_EQ(store.Ask(0, {1, 2}).status(), status);
    EXPECT_EQ(store.Ask(2, {0}).status(), status);
  }
  EXPECT_GT(failed, 75);
}

}  // namespace
}  // namespace stoker
