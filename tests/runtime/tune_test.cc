// Tuning: what is recommended holds in the half that was not searched.
#include "runtime/simulation/tune.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace stoker {
namespace {

// One layer of 16 experts, one a token. In each half either the same four come again among
// strangers (whom counting finds out) or each comes three times in a row (recency's case).
Trace HalvesOf(bool first_likes_counts, bool second_likes_counts, int steps) {
  std::mt19937_64 random(3);
  Trace trace;
  trace.header.layers = {{.layer = 0, .expert_count = 64, .expert_bytes = 1}};
  for (int i = 0; i < steps; ++i) {
    const bool likes_counts = i < steps / 2 ? first_likes_counts : second_likes_counts;
    int expert = static_cast<int>(random() % 64);
    if (likes_counts && i % 2 == 0) expert = i / 2 % 4;
    if (!likes_counts && i % 3 != 0) expert = trace.ids.back();
    trace.steps.push_back({.step = i + 1, .rows = {i, 1}, .routings = {i, 1}});
    trace.rows.push_back({.position = i});
    trace.routings.push_back({.top_k = 1, .first_id = i, .id_count = 1});
    trace.ids.push_back(static_cast<uint16_t>(expert));
  }
  return trace;
}

Tuning TuneOrDie(const Trace& trace, int replays_max = 60) {
  TuneOptions options;
  options.simulation.store = StoreKind::kPool;
  options.budget_bytes = 6;
  options.replays_max = replays_max;
  auto tuning = Tune(trace, options, TimingModel());
  if (!tuning.ok()) {
    ADD_FAILURE() << tuning.status();
    std::abort();
  }
  return *std::move(tuning);
}

TEST(Tune, RecommendsWhatIsBetterInBothHalves) {
  const Tuning tuning = TuneOrDie(HalvesOf(true, true, 2000));
  EXPECT_NE(tuning.recommended.run.policy, "lru");
  EXPECT_GT(tuning.recommended.searched_rate, tuning.defaults.searched_rate);
  EXPECT_GT(tuning.recommended.held_out_rate, tuning.defaults.held_out_rate);
  EXPECT_EQ(tuning.held_out_step, 1000);
}

TEST(Tune, NeverRecommendsWhatTheHeldOutHalfSpeaksAgainst) {
  const Tuning tuning = TuneOrDie(HalvesOf(true, false, 2000));
  EXPECT_GT(tuning.tried.front().searched_rate, tuning.defaults.searched_rate);
  if (tuning.recommended.run.policy != "lru") {
    EXPECT_GT(tuning.recommended.held_out_rate, tuning.defaults.held_out_rate);
  } else {
    EXPECT_LE(tuning.tried.front().held_out_rate, tuning.defaults.held_out_rate);
  }
}

TEST(Tune, IsTheSameEveryTimeAndStaysWithinItsReplays) {
  const Trace trace = HalvesOf(true, true, 400);
  const Tuning first = TuneOrDie(trace, 25);
  const Tuning second = TuneOrDie(trace, 25);
  ASSERT_EQ(first.tried.size(), second.tried.size());
  EXPECT_LE(first.tried.size(), 25u);
  for (size_t i = 0; i < first.tried.size(); ++i) {
    EXPECT_EQ(first.tried[i].run.policy, second.tried[i].run.policy);
    EXPECT_EQ(first.tried[i].searched_rate, second.tried[i].searched_rate);
    EXPECT_LE(first.tried[i].searched_rate, first.tried[i > 0 ? i - 1 : 0].searched_rate);
  }
}

TEST(Tune, AsksForALongerTraceWhenThereIsTooLittle) {
  const auto tuning = Tune(HalvesOf(true, true, 15), {.budget_bytes = 6}, TimingModel());
  ASSERT_FALSE(tuning.ok());
  EXPECT_NE(tuning.status().message().find("15 steps"), absl::string_view::npos);
  EXPECT_NE(tuning.status().message().find("longer"), absl::string_view::npos);
}

}  // namespace
}  // namespace stoker
