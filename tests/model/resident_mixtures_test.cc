// Layers whose experts are all on the device for good: the same bits, the same things told in the
// same order, and no wait in the middle of a step.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "cache/expert_cache.h"
#include "io/block_reader.h"
#include "io/gguf.h"
#include "tests/cache/allocation_count.h"
#include "tests/model/plain_device_ops.h"
#include "tests/model/settled_model.h"

namespace stoker {
namespace {

using ::testing::ContainsRegex;

bool IsOdd(int layer) { return layer % 2 == 1; }

class ResidentMixtures : public testing::Test {
 protected:
  void SetUp() override {
    const auto host = OnHost(ShippedModel());
    tokens_ = SomeTokens(60, host->config().vocab_count);
    expected_ = host->Run(tokens_, 60).logits;
  }
  std::vector<StepRow> Rows(int32_t first, int32_t count) const {
    std::vector<StepRow> rows;
    for (int32_t i = first; i < first + count; ++i) {
      rows.push_back({tokens_[static_cast<size_t>(i)], 0, i, true});
    }
    return rows;
  }
  std::vector<int32_t> tokens_;
  std::vector<float> expected_;
};

TEST_F(ResidentMixtures, GiveTheHostsBits) {
  for (const ModelledRates& rates : {kSlowCopies, kSlowKernels}) {
    Settled device(kPlainDeviceOps, {}, rates);
    for (const int chunk : {1, 3, 16, 60}) {
      device.model().Reset();
      EXPECT_TRUE(device.model().Run(tokens_, chunk).logits == expected_) << chunk;
    }
  }
}

TEST_F(ResidentMixtures, MayLieBetweenLayersThatAreNot) {
  for (const ModelledRates& rates : {kSlowCopies, kSlowKernels}) {
    Settled device(kPlainDeviceOps, {}, rates);
    for (const bool odd : {true, false}) {
      device.experts().Settle([odd](int layer) { return IsOdd(layer) == odd; });
      for (const int chunk : {1, 3, 60}) {
        device.model().Reset();
        EXPECT_TRUE(device.model().Run(tokens_, chunk).logits == expected_) << chunk;
      }
    }
  }
}

TEST_F(ResidentMixtures, MaySettleOneAfterTheOther) {
  Settled device;
  int settled = 0;
  device.experts().Settle([&](int layer) { return layer < settled; });
  std::vector<float> logits;
  for (int32_t token : tokens_) {
    const std::vector<float> row = device.model().Run({token}, 1).logits;
    logits.insert(logits.end(), row.begin(), row.end());
    ++settled;
  }
  EXPECT_TRUE(logits == expected_);
}

TEST_F(ResidentMixtures, GiveTheHostsBitsByTheDevicesOwnKernels) {
  Settled device(*FindDeviceOps("modelled"));
  const std::vector<int32_t> some(tokens_.begin(), tokens_.begin() + 9);
  std::vector<float> logits = device.model().Run({some.begin(), some.begin() + 5}, 5).logits;
  const std::vector<float> rest = device.model().Run({some.begin() + 5, some.end()}, 1).logits;
  logits.insert(logits.end(), rest.begin(), rest.end());
  EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected_.begin()));
}

// Its tables are other ones, at addresses that may be the same.
TEST_F(ResidentMixtures, AnotherStoreIsNoticed) {
  Settled device;
  LoadedModel& model = device.model();
  model.Run({tokens_.begin(), tokens_.begin() + 10}, 1);
  for (int round = 0; round < 3; ++round) {
    model.Use(nullptr);
    auto others =
        *PlacedExperts::Create(model.experts(), model.spec().experts, device.device(), {});
    auto experts =
        *SettledExperts::Create(model.experts(), *others, model.spec().experts, device.device());
    model.Use(experts.get());
    model.Reset();
    EXPECT_TRUE(model.Run(tokens_, 2).logits == expected_);
    model.Use(nullptr);
  }
}

// What was seen of a step, in order.
struct Seen final : StepObserver {
  struct Choice {
    int layer;
    std::vector<int32_t> experts;
    std::vector<float> weights;
    friend bool operator==(const Choice&, const Choice&) = default;
  };
  std::vector<Choice> choices;
  void OnRouting(int layer, int, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override {
    choices.push_back({layer, {experts.begin(), experts.end()}, {weights.begin(), weights.end()}});
  }
};

TEST_F(ResidentMixtures, ObserverAndStoreAreToldTheSameInTheSameOrder) {
  std::vector<std::vector<StoreUse>> uses;
  std::vector<Seen> seen;
  const std::function<bool(int)> kinds[] = {[](int) { return false; }, IsOdd,
                                            [](int layer) { return !IsOdd(layer); },
                                            [](int) { return true; }};
  for (const auto& is_resident : kinds) {
    Settled device;
    device.experts().Settle(is_resident);
    Seen& observer = seen.emplace_back();
    for (const auto& rows : {Rows(0, 5), Rows(5, 1), Rows(6, 1), Rows(7, 50)}) {
      ASSERT_TRUE(device.Step(rows, &observer).ok());
    }
    uses.push_back(device.experts().uses());
  }
  ASSERT_GT(seen[0].choices.size(), 4u);
  for (size_t i = 1; i < std::size(kinds); ++i) {
    EXPECT_TRUE(seen[i].choices == seen[0].choices) << i;
    EXPECT_TRUE(uses[i] == uses[0]) << i;
  }
}

TEST_F(ResidentMixtures, AStepWaitsForTheDeviceOnce) {
  Settled device;
  for (int32_t i = 0; i < 4; ++i) {
    const uint64_t before = device.Count("device_waits");
    ASSERT_TRUE(device.Step(Rows(i, 1)).ok());
    EXPECT_EQ(device.Count("device_waits") - before, 1u);
  }
  EXPECT_EQ(device.experts().request_count(), 0);
}

// One row chose each expert once, so there is nothing to group: a launch a layer fewer.
TEST_F(ResidentMixtures, AreGroupedForSeveralRowsOnly) {
  Settled device;
  device.device().RefuseRecordings(1);
  const auto launches_of = [&](int32_t first, int32_t count) {
    const uint64_t before = device.Count("device_launches");
    EXPECT_TRUE(device.Step(Rows(first, count)).ok());
    return static_cast<int>(device.Count("device_launches") - before);
  };
  const int of_one = launches_of(0, 1);
  const int of_two = launches_of(1, 2);
  fmt::print("launches of a step of {} layers: {} of one row, {} of two\n", device.layer_count(),
             of_one, of_two);
  EXPECT_EQ(of_two - of_one, device.layer_count());
}

TEST_F(ResidentMixtures, AreAskedForWhereAPromptHasTooManyPairsToPlanThere) {
  Settled device;
  const int32_t top_k = device.model().config().experts_used;
  const int32_t rows = kGroupedPairsMax / top_k;
  ASSERT_LT(rows, static_cast<int32_t>(tokens_.size()));
  ASSERT_TRUE(device.Step(Rows(0, rows)).ok());
  EXPECT_EQ(device.experts().request_count(), 0);
  device.model().Reset();
  ASSERT_TRUE(device.Step(Rows(0, rows + 1)).ok());
  EXPECT_EQ(device.experts().request_count(), device.layer_count());
}

// A store over the model's file, on a device that has room for every expert.
struct FileStore {
  explicit FileStore(OnDevice& on) : reader(MakePreadReader({})) {
    const ModelSpec& spec = on.model().spec();
    std::vector<size_t> alignments;
    const GgufModel gguf = *GgufModel::Open(ShippedModel());
    for (const std::string& path : gguf.paths()) {
      alignments.push_back(reader->alignment(*reader->AddFile(path)));
    }
    const CachePlan plan = *PlanCache(
        spec.experts, {.ram_bytes = UINT64_MAX, .vram_bytes = UINT64_MAX, .has_device = true},
        spec.config.experts_used, alignments);
    CacheOptions options = {.device = &on.device()};
    for (const TierKind kind : {TierKind::kVram, TierKind::kRam}) {
      options.tiers.push_back({.kind = kind, .budget_bytes = UINT64_MAX});
    }
    cache = *ExpertCache::Create(spec.experts, plan, options, *reader, on.clock(), nullptr);
  }
  // Asks for all experts of a layer until it is resident.
  void Fill(OnDevice& on, const LayerExperts& layer) {
    std::vector<int32_t> experts(static_cast<size_t>(layer.expert_count));
    std::iota(experts.begin(), experts.end(), 0);
    while (cache->Resident(layer.layer).parts == nullptr) {
      ASSERT_TRUE(cache->Request(layer.layer, experts).ok());
      ExpertRef ref;
      while (*cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne) > 0) ref.Release();
      on.clock().AdvanceNs(1'000'000'000);
    }
  }

  std::unique_ptr<BlockReader> reader;
  std::unique_ptr<ExpertCache> cache;
};

TEST_F(ResidentMixtures, TheStoreSettlesLayersAndCountsTheirUses) {
  OnDevice device(ShippedModel(), kPlainDeviceOps);
  FileStore store(device);
  device.model().Use(store.cache.get());
  const ModelSpec& spec = device.model().spec();
  for (const LayerExperts& layer : spec.experts.layers) store.Fill(device, layer);
  const CacheCounts before = store.cache->counts();
  EXPECT_TRUE(device.model().Run(tokens_, 1).logits == expected_);
  const CacheCounts& after = store.cache->counts();
  const uint64_t uses =
      tokens_.size() * spec.experts.layers.size() * static_cast<uint64_t>(spec.config.experts_used);
  EXPECT_EQ(after.hits - before.hits, uses);
  EXPECT_EQ(after.vram_hits - before.vram_hits, uses);
  EXPECT_EQ(after.device_experts - before.device_experts, uses);
  EXPECT_EQ(after.misses, before.misses);
  const uint64_t waits = device.Count("device_waits");
  device.model().Run({1}, 1);
  EXPECT_EQ(device.Count("device_waits") - waits, 1u);
  device.model().Use(nullptr);
}

TEST_F(ResidentMixtures, AStepAllocatesNothing) {
  Settled device;
  device.device().RefuseRecordings(1);  // each step is queued piece by piece
  for (const int32_t first : {0, 4}) ASSERT_TRUE(device.Step(Rows(first, 4)).ok());
  device.experts().Hear(false);
  int32_t position = 8;
  for (const int32_t count : {1, 1, 4, 4, 1}) {
    const std::vector<StepRow> rows = Rows(position, count);
    position += count;
    const AllocationCount allocations;
    const absl::Status status = device.Step(rows);
    EXPECT_EQ(allocations.Count(), 0) << count;
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(device.Count("device_repeats"), 0u);
}

TEST_F(ResidentMixtures, AFaultOfTheDeviceIsNamedAndTellsNobodyOfTheStep) {
  for (const uint64_t nth : {3, 20, 41, 70}) {
    Settled device;
    ASSERT_TRUE(device.Step(Rows(0, 5)).ok());
    device.experts().uses().clear();
    device.device().FailOperation(nth);
    Seen observer;
    const absl::Status status = device.Step(Rows(5, 1), &observer);
    EXPECT_THAT(std::string(MessageOf(status)), ContainsRegex("(kernel|copy) .*failed")) << nth;
    EXPECT_TRUE(observer.choices.empty());
    EXPECT_TRUE(device.experts().uses().empty());
    EXPECT_EQ(device.model().kv().length(0), 5);
  }
}

}  // namespace
}  // namespace stoker
