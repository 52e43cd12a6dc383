// Replays over a pool of bytes: against recordings and results of others, by hand, and against the
// optimum.
#include "runtime/simulation/pool_replay.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "runtime/simulation/belady.h"
#include "runtime/simulation/simulation.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

struct Sizes {
  int layers = 4;
  int experts = 16;
  int top_k = 2;
  int steps = 300;
};

// A prompt of a few rows, then one row a step, with experts of layer i of `bytes[i]` and some of
// them liked more. Two sequences, one after the other.
Trace RandomTrace(const Sizes& sizes, absl::Span<const uint64_t> bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  Trace trace;
  for (int layer = 0; layer < sizes.layers; ++layer) {
    trace.header.layers.push_back({.layer = layer + 1,
                                   .expert_count = sizes.experts,
                                   .expert_bytes = bytes[layer % bytes.size()]});
  }
  for (int i = 0; i < sizes.steps; ++i) {
    const bool is_prompt = i % (sizes.steps / 2) == 0;
    TraceStep step = {.step = i + 1, .sequence_group = i / (sizes.steps / 2)};
    step.rows = {static_cast<int64_t>(trace.rows.size()), is_prompt ? 3 : 1};
    step.routings = {static_cast<int64_t>(trace.routings.size()), sizes.layers};
    for (int64_t row = 0; row < step.rows.count; ++row) {
      trace.rows.push_back({.sequence = step.sequence_group, .is_prompt = is_prompt});
    }
    for (int layer = 0; layer < sizes.layers; ++layer) {
      trace.routings.push_back({.layer_index = layer,
                                .top_k = sizes.top_k,
                                .first_id = static_cast<int64_t>(trace.ids.size()),
                                .id_count = step.rows.count * sizes.top_k});
      for (int64_t row = 0; row < step.rows.count; ++row) {
        const auto first =
            static_cast<int>(random() % 2 == 0 ? random() % 4 : random() % sizes.experts);
        for (int rank = 0; rank < sizes.top_k; ++rank) {
          trace.ids.push_back(static_cast<uint16_t>((first + rank * 5) % sizes.experts));
        }
      }
    }
    trace.steps.push_back(step);
  }
  return trace;
}

ReplayResult Replay(const Trace& trace, const std::string& policy, uint64_t budget_bytes,
                    bool cold_per_prompt = false) {
  const SimulatedRun run = {.policy = policy, .budget_bytes = budget_bytes};
  SimulationOptions options;
  options.store = StoreKind::kPool;
  options.cold_per_prompt = cold_per_prompt;
  options.profile = ProfileOf(trace);
  auto results = Simulate(trace, {&run, 1}, options, TimingModel());
  if (!results.ok()) {
    ADD_FAILURE() << results.status();
    std::abort();
  }
  return std::move(results->front());
}

uint64_t Hits(const ReplayResult& result) { return result.decode.hits + result.prompt.hits; }

Trace SharedTrace(const std::string& name) {
  auto trace = ReadTrace(SharedPath("data/traces/" + name));
  EXPECT_TRUE(trace.ok()) << trace.status();
  return *std::move(trace);
}

TEST(PoolReplay, LruReproducesTheResidencyThatAnotherProgramRecorded) {
  SKIP_WITHOUT_SHARED();
  const Trace trace = SharedTrace("bigmoe-qwen.route.csv");
  const ReplayResult result = Replay(trace, "lru", uint64_t{4000} << 20);
  EXPECT_EQ(result.decode.accesses, 36864u);
  int64_t use = 0;
  int64_t agreed = 0;
  for (size_t i = 0; i < trace.steps.size(); ++i) {
    const TraceStep& step = trace.steps[i];
    if (trace.rows[step.rows.first].is_prompt) continue;
    uint32_t recorded_hits = 0;
    for (int64_t r = 0; r < step.routings.count; ++r) {
      const TraceRouting& routing = trace.routings[step.routings.first + r];
      for (int64_t id = 0; id < routing.id_count; ++id, ++use) {
        recorded_hits += trace.was_resident[routing.first_id + id];
      }
    }
    agreed += result.steps[i].hits == recorded_hits ? 1 : 0;
  }
  EXPECT_EQ(use, 36864);
  EXPECT_EQ(agreed, 128);  // every step; bit by bit in tests/cache/trace_replay_test.cc
}

// bigmoe-qwen.policy-curve.csv: budget, hit_pct_decode of lru and of belady, read_mib of both.
TEST(PoolReplay, ReproducesThePublishedCurve) {
  SKIP_WITHOUT_SHARED();
  struct Point {
    uint64_t mib;
    double lru, belady, lru_mib, belady_mib;
  };
  constexpr Point kCurve[] = {
      {250, 0, 27.496, 107715.0, 80295.5},      {500, 0, 45.266, 107715.0, 62632.1},
      {750, 0, 55.371, 107715.0, 52454.1},      {1000, 37.679, 62.671, 70208.5, 45071.7},
      {1500, 47.040, 72.705, 60863.3, 34933.2}, {2000, 56.548, 79.354, 51252.3, 28169.2},
      {2500, 65.107, 84.150, 42586.7, 23315.3}, {3000, 70.614, 87.828, 37007.0, 19584.8},
      {4000, 80.287, 92.716, 27213.7, 14637.9}, {6000, 92.133, 96.623, 15247.9, 10695.1},
      {8000, 95.966, 97.095, 11360.3, 10213.7}};
  const Trace trace = SharedTrace("bigmoe-qwen.route.csv");
  const auto mib = [](const ReplayResult& result) {
    return static_cast<double>(result.decode.read_bytes + result.prompt.read_bytes) / (1 << 20);
  };
  for (const Point& point : kCurve) {
    const ReplayResult lru = Replay(trace, "lru", point.mib << 20);
    const ReplayResult belady = Replay(trace, "belady", point.mib << 20);
    EXPECT_NEAR(100 * lru.decode.hit_rate(), point.lru, 0.001) << point.mib;
    EXPECT_NEAR(100 * belady.decode.hit_rate(), point.belady, 0.001) << point.mib;
    EXPECT_NEAR(mib(lru), point.lru_mib, 0.1) << point.mib;
    EXPECT_NEAR(mib(belady), point.belady_mib, 0.1) << point.mib;
  }
}

TEST(PoolReplay, LruPerLayerCountsWhatIsWorkedOutByHand) {
  SKIP_WITHOUT_SHARED();
  const Trace trace = SharedTrace("conformance-toy");
  EXPECT_EQ(trace.header.total_expert_bytes(), 12u);
  const ReplayResult result = Replay(trace, "lru-per-layer", 6);
  EXPECT_EQ(result.decode.accesses, 30u);
  EXPECT_EQ(result.decode.hits, 12u);
  EXPECT_EQ(result.decode.misses, 18u);
  EXPECT_EQ(result.prompt.accesses, 0u);
}

// One layer of experts 0..3, two a row: the rows of a step are pinned together and counted apart.
TEST(PoolReplay, RowsThatShareAnExpertOfAStepReadItOnce) {
  Trace trace;
  trace.header.layers = {{.layer = 0, .expert_count = 4, .expert_bytes = 10}};
  trace.ids = {0, 1, 1, 2, 0, 2};
  trace.rows = {{.is_prompt = true}, {.is_prompt = true}, {.position = 2}};
  trace.routings = {{.top_k = 2, .first_id = 0, .id_count = 4},
                    {.top_k = 2, .first_id = 4, .id_count = 2}};
  trace.steps = {{.rows = {0, 2}, .routings = {0, 1}}, {.rows = {2, 1}, .routings = {1, 1}}};
  const ReplayResult result = Replay(trace, "lru", 30);
  EXPECT_EQ(result.prompt.accesses, 4u);
  EXPECT_EQ(result.prompt.hits, 1u);
  EXPECT_EQ(result.prompt.read_bytes, 30u);
  EXPECT_EQ(result.decode.accesses, 2u);
  EXPECT_EQ(result.decode.hits, 2u);
  ASSERT_EQ(result.step_ns.size(), 1u);
  // Without room for all three the second row lets go of the first one's.
  EXPECT_EQ(Replay(trace, "lru", 20).prompt.misses, 3u);
}

TEST(PoolReplay, ColdPerPromptForgetsAtEachSequence) {
  const uint64_t bytes[] = {1};
  const Trace trace = RandomTrace({}, bytes, 5);
  const uint64_t all = trace.header.total_expert_bytes();
  const ReplayResult warm = Replay(trace, "lru", all);
  const ReplayResult cold = Replay(trace, "lru", all, /*cold_per_prompt=*/true);
  EXPECT_LE(warm.decode.misses + warm.prompt.misses, all);
  EXPECT_GT(cold.decode.misses + cold.prompt.misses, warm.decode.misses + warm.prompt.misses);
  // Two runs of half the trace each.
  uint64_t halves = 0;
  for (size_t i = 0; i < cold.steps.size(); ++i) {
    if (i < cold.steps.size() / 2) {
      EXPECT_EQ(cold.steps[i].misses, warm.steps[i].misses);
    }
    halves += cold.steps[i].misses;
  }
  EXPECT_LE(halves, 2 * all);
}

TEST(PoolReplay, NoPolicyBeatsBeladyWhereSizesAreEqual) {
  const uint64_t bytes[] = {7};
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Trace trace = RandomTrace({}, bytes, seed);
    for (const int slots : {8, 9, 16, 31, 48, 64}) {
      const uint64_t budget_bytes = static_cast<uint64_t>(slots) * 7 + seed % 7;
      const uint64_t best = Hits(Replay(trace, "belady", budget_bytes));
      for (const std::string& policy : PolicyNames()) {
        EXPECT_LE(Hits(Replay(trace, policy, budget_bytes)), best)
            << policy << " of " << slots << " slots, seed " << seed;
      }
    }
  }
}

TEST(PoolReplay, BeladyThatMayPassByIsAtLeastAsGood) {
  const uint64_t bytes[] = {1};
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Trace trace = RandomTrace({}, bytes, seed);
    const UseStream stream = FlattenTrace(trace, UseGrouping::kRow);
    for (const uint64_t budget_bytes : {4, 9, 16, 31}) {
      const PoolOptions options = {.budget_bytes = budget_bytes};
      EXPECT_GE(Hits(ReplayBelady(stream, /*may_bypass=*/true, options, TimingModel())),
                Hits(ReplayBelady(stream, /*may_bypass=*/false, options, TimingModel())));
    }
  }
}

TEST(PoolReplay, TheBudgetHoldsWhateverTheSizes) {
  const uint64_t bytes[] = {5, 9, 2};
  const Trace trace = RandomTrace({}, bytes, 3);
  const uint64_t all = trace.header.total_expert_bytes();
  uint64_t misses = UINT64_MAX;
  for (const uint64_t budget_bytes : {uint64_t{30}, all / 4, all / 2, all}) {
    const ReplayResult result = Replay(trace, "belady", budget_bytes);
    EXPECT_LT(result.decode.misses, misses);
    misses = result.decode.misses;
  }
}

TEST(PoolReplay, PolicyOfAProfileSaysWhatItLacks) {
  const uint64_t bytes[] = {1};
  const Trace trace = RandomTrace({}, bytes, 3);
  const SimulatedRun run = {.policy = "static", .budget_bytes = 8};
  const auto results = Simulate(trace, {&run, 1}, {}, TimingModel());
  ASSERT_FALSE(results.ok());
  EXPECT_NE(results.status().message().find("profile"), absl::string_view::npos)
      << results.status();
}

// Ranks by a list that is sorted every time.
TEST(FarthestFirst, PicksTheFarthestThatMayGo) {
  std::mt19937_64 random(11);
  FarthestFirst heap(64);
  std::vector<int32_t> next(64, -1);
  for (int i = 0; i < 20'000; ++i) {
    const auto key = static_cast<ExpertKey>(random() % 64);
    if (next[key] >= 0 && random() % 3 == 0) {
      heap.Remove(key);
      next[key] = -1;
    } else {
      next[key] = static_cast<int32_t>(random() % 100);
      heap.Set(key, next[key]);
    }
    const uint64_t allowed = random() & random();
    const auto may_go = [&](ExpertKey k) { return ((allowed >> k) & 1) != 0; };
    ExpertKey expected = -1;
    for (ExpertKey k = 0; k < 64; ++k) {
      if (next[k] >= 0 && may_go(k) && (expected < 0 || next[k] > next[expected])) expected = k;
    }
    ASSERT_EQ(heap.Pick(may_go), expected);
  }
}

}  // namespace
}  // namespace stoker
