// Claims of governor.h, against machines whose costs are set.
#include "speculative/governor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "model/model.h"

namespace stoker {
namespace {

// A machine and a text: what a step of so many rows takes, and how often drafts are right.
struct World {
  std::function<double(int rows)> compute_ns = [](int) { return 1000.0; };
  std::function<double(int rows)> missing = [](int) { return 0.0; };
  double wait_per_missing_ns = 0;
  double chance = 0;      // of each draft, if those before it are right
  double draft_ns = 0;    // a draft
  double pushed_out = 0;  // experts that the first step behind one with drafts misses as well
  int felt_for = 1;       // and so many behind it
  // What the text alone is said to miss, by what it does; below 0: nothing is said.
  double shadow_ratio = -1;
};

Governor::Options Options(int sequences, bool is_drafting_free = true) {
  return {.sequence_count = sequences,
          .length_max = 8,
          .is_drafting_free = is_drafting_free,
          .missing_max = 1e6,
          .values = {0.05, 64}};
}

class SimulatedRun {
 public:
  SimulatedRun(const Governor::Options& options, uint64_t seed = 1)
      : governor_(options), sequences_(options.sequence_count), random_(seed) {}

  void Steps(const World& world, int count) {
    for (int i = 0; i < count; ++i) Step(world);
  }
  double tokens_per_ns() const { return tokens_ / ns_; }
  void Restart() { tokens_ = ns_ = checked_ = drafted_ = 0; }
  double checked() const { return checked_; }
  double drafted() const { return drafted_; }
  double won_ns() const { return won_ns_; }  // against none, of one sequence
  const Governor& governor() const { return governor_; }

 private:
  void Step(const World& world) {
    std::vector<Governor::Candidate> candidates;
    for (int slot = 0; slot < sequences_; ++slot) candidates.push_back({.slot = slot, .room = 100});
    governor_.Choose(absl::MakeSpan(candidates));
    int rows = sequences_, tokens = sequences_, checked = 0;
    int64_t draft_ns = 0;
    const std::vector<DraftCost::Round> rounds = Rounds(world, candidates);
    for (const DraftCost::Round& round : rounds) draft_ns += round.ns;
    for (const Governor::Candidate& candidate : candidates) {
      EXPECT_LE(candidate.check, candidate.draft);
      drafted_ += candidate.draft;
      if (candidate.draft == 0) continue;
      int right = 0;
      while (right < candidate.draft && Happens(world.chance)) ++right;
      governor_.ObserveDrafts(candidate.slot, candidate.draft, right);
      if (candidate.check == 0) continue;
      rows += candidate.check;
      checked += candidate.check;
      tokens += std::min(right, candidate.check);
    }
    const double missing =
        world.missing(rows) + (checked == 0 && felt_left_ > 0 ? world.pushed_out : 0.0);
    felt_left_ = checked > 0 ? world.felt_for : felt_left_ - 1;
    const Governor::StepSample sample = {.cost = {.rows = rows,
                                                  .compute_ns = world.compute_ns(rows),
                                                  .wait_ns = missing * world.wait_per_missing_ns,
                                                  .missing = missing},
                                         .sequences = sequences_,
                                         .tokens = tokens,
                                         .checked = checked,
                                         .draft_ns = draft_ns,
                                         .undrafted_missing = UndraftedMissing(world, tokens),
                                         .draft_rounds = rounds};
    governor_.ObserveStep(sample);
    tokens_ += tokens;
    checked_ += checked;
    const double plain_ns = world.compute_ns(1) + world.missing(1) * world.wait_per_missing_ns;
    if (checked > 0) won_ns_ += tokens * plain_ns - sample.cost.compute_ns - sample.cost.wait_ns;
    ns_ += sample.cost.compute_ns + sample.cost.wait_ns + static_cast<double>(sample.draft_ns);
  }
  static double UndraftedMissing(const World& world, int tokens) {
    return world.shadow_ratio < 0 ? -1 : world.missing(1) * tokens * world.shadow_ratio;
  }
  static std::vector<DraftCost::Round> Rounds(const World& world,
                                              const std::vector<Governor::Candidate>& candidates) {
    std::vector<DraftCost::Round> rounds;
    for (const Governor::Candidate& candidate : candidates) {
      rounds.resize(std::max(rounds.size(), static_cast<size_t>(candidate.draft)));
      for (int i = 0; i < candidate.draft; ++i) {
        DraftCost::Round& round = rounds[static_cast<size_t>(i)];
        round.ns += static_cast<int64_t>(world.draft_ns);
        ++round.sequences;
      }
    }
    return rounds;
  }
  bool Happens(double chance) { return std::uniform_real_distribution<>()(random_) < chance; }

  Governor governor_;
  const int sequences_;
  std::mt19937_64 random_;
  int felt_left_ = 0;  // steps that feel the last drafts
  double tokens_ = 0, ns_ = 0, checked_ = 0, drafted_ = 0, won_ns_ = 0;
};

// Tokens a nanosecond of always checking so many drafts of one sequence.
double FixedRate(const World& world, int length) {
  double tokens = 1, reached = 1;
  for (int i = 0; i < length; ++i) tokens += reached *= world.chance;
  const int rows = 1 + length;
  return tokens / (world.compute_ns(rows) + world.missing(rows) * world.wait_per_missing_ns +
                   world.draft_ns * length);
}

double BestFixedRate(const World& world) {
  double best = 0;
  for (int length = 0; length <= 8; ++length) best = std::max(best, FixedRate(world, length));
  return best;
}

TEST(Governor, RowsThatCostNothingAndDraftsThatAreRightArePaidInFull) {
  const World world = {.chance = 0.9};
  SimulatedRun run(Options(1));
  run.Steps(world, 200);
  run.Restart();
  run.Steps(world, 4000);
  EXPECT_GT(run.tokens_per_ns(), 0.95 * BestFixedRate(world));
  EXPECT_TRUE(run.governor().is_on());
}

// What each further row costs a streamed model: its experts.
World Streamed(double chance) {
  return {.compute_ns = [](int rows) { return 1000.0 + 50 * rows; },
          .missing = [](int rows) { return 20 * std::pow(rows, 0.67); },
          .wait_per_missing_ns = 500,
          .chance = chance};
}

TEST(Governor, ReachesTheBestFixedLengthOfAStreamedModelToWithinAFewPercent) {
  for (const double chance : {0.3, 0.5, 0.64, 0.8, 0.95}) {
    const World world = Streamed(chance);
    SimulatedRun run(Options(1));
    run.Steps(world, 5000);
    EXPECT_GT(run.tokens_per_ns(), 0.95 * BestFixedRate(world)) << chance;
  }
}

TEST(Governor, IsNeverMuchSlowerThanNoDraftsHoweverDearTheyAre) {
  for (const double chance : {0.0, 0.2, 0.5}) {
    World world = Streamed(chance);
    world.missing = [](int rows) { return 20.0 * rows; };  // nothing is shared
    SimulatedRun run(Options(1));
    run.Steps(world, 5000);
    EXPECT_GT(run.tokens_per_ns(), 0.98 * FixedRate(world, 0)) << chance;
  }
}

TEST(Governor, ADrafterThatTakesTimeIsSeldomAskedWhileItDoesNotPay) {
  World world = Streamed(0.2);
  world.draft_ns = 500;
  SimulatedRun run(Options(1, /*is_drafting_free=*/false));
  run.Steps(world, 200);
  run.Restart();
  run.Steps(world, 5000);
  EXPECT_GT(run.tokens_per_ns(), 0.98 * FixedRate(world, 0));
  EXPECT_GT(run.drafted(), 0);
  EXPECT_LT(run.drafted(), 250);
}

// A shadow of so many rows of a text whose rows have experts of their own until it begins again.
std::unique_ptr<ShadowCache> ShadowOf(int rows_that_fit, int period, int length) {
  ExpertCatalog catalog;
  catalog.layers.push_back({.layer = 0, .expert_count = period, .part_count = 1});
  auto shadow = std::make_unique<ShadowCache>(
      catalog, ShadowCache::Options{.slot_count = rows_that_fit, .rows_max = 9, .top_k = 1});
  for (int32_t i = 0; i < length; ++i) {
    shadow->OnStep(std::vector<StepRow>(1));
    shadow->OnRouting(0, 1, std::vector<int32_t>{i % period}, {});
    shadow->Use(0, 1);
  }
  return shadow;
}

// With waiting for experts most of a step, drafts gain nothing if two rows miss twice as many: no
// drafts are checked to find that out.
TEST(Governor, WhereTheTextTellsThatDraftsCannotPayNoneAreChecked) {
  const World world = {.compute_ns = [](int rows) { return 20.0 + 5.0 * rows; },
                       .missing = [](int rows) { return 20.0 * rows; },
                       .wait_per_missing_ns = 50,
                       .chance = 0.7};
  const auto shadow = ShadowOf(10, 100, 2000);
  Governor::Options options = Options(1);
  SimulatedRun without(options);
  without.Steps(world, 2000);
  EXPECT_GT(without.checked(), 0);
  options.shadow = shadow.get();
  SimulatedRun with(options);
  with.Steps(world, 2000);
  EXPECT_EQ(with.checked(), 0);
}

// Drafts of which the governor thinks too well: wide steps miss more than the text tells, each time
// anew. What that may cost is bounded.
TEST(Governor, WhatIsLostToDraftsIsAShareOfTheRun) {
  const auto shadow = ShadowOf(4, 5, 2000);
  World cheap = {.compute_ns = [](int) { return 200.0; },
                 .missing = [](int) { return 20.0; },
                 .wait_per_missing_ns = 50,
                 .chance = 0.9,
                 .shadow_ratio = 1};
  World dear = cheap;
  dear.missing = [](int rows) { return rows == 1 ? 20.0 : 60.0 * rows; };
  Governor::Options options = Options(1);
  options.shadow = shadow.get();
  SimulatedRun run(options);
  bool was_spent = false;
  for (int i = 0; i < 100; ++i) {
    run.Steps(cheap, 2);  // enough to want more, and not to win much
    run.Steps(dear, 40);
    was_spent |= run.governor().belief().is_budget_spent;
  }
  EXPECT_TRUE(was_spent);
  EXPECT_GT(run.checked(), 0);
  // The budget is 8 steps of 4200 and a two-hundredth, 0.7 %; a step may overdraw it each time.
  EXPECT_GT(run.tokens_per_ns(), 0.97 * FixedRate(dear, 0));
}

// The text goes round in five rows' experts, which the cache just fails to hold: two rows miss no
// more than one.
TEST(Governor, WhereTheTextTellsThatDraftsPayTheyAreCheckedAtOnce) {
  const World world = {.compute_ns = [](int rows) { return 200.0 + 50.0 * rows; },
                       .missing = [](int) { return 20.0; },
                       .wait_per_missing_ns = 50,
                       .chance = 0.9};
  const auto shadow = ShadowOf(4, 5, 2000);
  Governor::Options options = Options(1);
  options.shadow = shadow.get();
  SimulatedRun run(options);
  run.Steps(world, 200);
  EXPECT_TRUE(run.governor().is_on());
  EXPECT_GT(run.tokens_per_ns(), 3 * FixedRate(world, 0));
}

TEST(Governor, ADrafterTooDearForAnyDraftsToPayIsNotAskedUntilStepsTakeLonger) {
  World world = Streamed(0.9);
  world.draft_ns = 12000;  // of a step of 11,000
  SimulatedRun run(Options(1, /*is_drafting_free=*/false));
  run.Steps(world, 200);
  EXPECT_LE(run.drafted(), 8);
  run.Restart();
  run.Steps(world, 5000);
  EXPECT_EQ(run.drafted(), 0);
  world.wait_per_missing_ns *= 10;
  run.Steps(world, 2000);
  run.Restart();
  run.Steps(world, 1000);
  EXPECT_GT(run.tokens_per_ns(), 0.95 * BestFixedRate(world));
}

TEST(Governor, NoticesThatDraftsHaveBecomeRight) {
  SimulatedRun run(Options(1));
  run.Steps(Streamed(0.05), 1000);
  EXPECT_FALSE(run.governor().is_on());
  const World world = Streamed(0.95);
  run.Steps(world, 1500);
  run.Restart();
  run.Steps(world, 1000);
  EXPECT_GT(run.tokens_per_ns(), 0.95 * BestFixedRate(world));
}

TEST(Governor, NoticesThatTheCacheHasFilled) {
  World world = Streamed(0.6);
  world.missing = [](int rows) { return 20.0 * rows; };
  SimulatedRun run(Options(1));
  run.Steps(world, 1000);
  EXPECT_FALSE(run.governor().is_on());
  world.missing = [](int) { return 0.0; };
  world.compute_ns = [](int rows) { return 1000.0 + 100 * rows; };
  run.Steps(world, 3000);
  run.Restart();
  run.Steps(world, 1000);
  EXPECT_GT(run.tokens_per_ns(), 0.95 * BestFixedRate(world));
}

TEST(Governor, WhileItIsOnTheCostOfAStepWithoutDraftsIsKeptUpToDate) {
  World world = {.chance = 0.9};
  SimulatedRun run(Options(1));
  run.Steps(world, 500);
  ASSERT_TRUE(run.governor().is_on());
  world.compute_ns = [](int rows) { return rows == 1 ? 100.0 : 1000.0; };
  run.Steps(world, 1000);
  EXPECT_FALSE(run.governor().is_on());
}

TEST(Governor, ADrafterThatTakesTimeIsNoticedToHaveBecomeRight) {
  World world = Streamed(0.3);
  world.draft_ns = 1000;
  SimulatedRun run(Options(1, /*is_drafting_free=*/false));
  run.Steps(world, 100);
  world.chance = 0.95;
  run.Steps(world, 500);
  EXPECT_TRUE(run.governor().is_on());
}

// Drafts are checked while the cache fills, so few steps without are seen from then on.
TEST(Governor, ACacheThatFillsWhileItIsOnDoesNotFlatterDrafts) {
  World cold = {.compute_ns = [](int rows) { return 1000.0 * rows; },
                .missing = [](int) { return 20.0; },
                .wait_per_missing_ns = 500,
                .chance = 0.6};
  World warm = cold;
  warm.missing = [](int) { return 0.0; };
  SimulatedRun run(Options(1));
  run.Steps(cold, 40);
  ASSERT_TRUE(run.governor().is_on());
  run.Steps(warm, 200);
  EXPECT_FALSE(run.governor().is_on());
}

// Whether it is on long after drafts have begun to cost what they save, and to push experts of the
// text out.
bool IsOnAfterDraftsHaveBecomeDear(World world) {
  world.wait_per_missing_ns = 500;
  world.chance = 0.6;
  SimulatedRun run(Options(1));
  run.Steps(world, 100);
  EXPECT_TRUE(run.governor().is_on());
  world.compute_ns = [](int rows) { return 1000.0 * rows; };
  world.pushed_out = 20;
  run.Steps(world, 600);
  return run.governor().is_on();
}

TEST(Governor, WhatWrongDraftsLeaveInTheCacheDoesNotFlatterDrafts) {
  EXPECT_FALSE(IsOnAfterDraftsHaveBecomeDear({}));
}

// For longer than the few steps without drafts that are made meanwhile.
TEST(Governor, WhatDraftsLeaveForLongIsNoticedByWhatTheTextAloneWouldMiss) {
  EXPECT_TRUE(IsOnAfterDraftsHaveBecomeDear({.felt_for = 20}));
  EXPECT_FALSE(IsOnAfterDraftsHaveBecomeDear({.felt_for = 20, .shadow_ratio = 1}));
}

// The store does better than the shadow, which knows nothing of its guesses.
TEST(Governor, AShadowThatMissesMoreThanTheStoreFlattersNoDrafts) {
  World world = Streamed(0.2);
  world.shadow_ratio = 3;
  SimulatedRun run(Options(1));
  run.Steps(world, 3000);
  EXPECT_FALSE(run.governor().is_on());
  EXPECT_GT(run.tokens_per_ns(), 0.98 * FixedRate(world, 0));
  EXPECT_LT(run.governor().totals().won_ns, 0.01 * run.governor().totals().step_ns);
}

// Others use the machine while its verdict is made.
TEST(Governor, ATimeInWhichEverythingIsSlowerDoesNotMislead) {
  World slow = {.compute_ns = [](int rows) { return 2000.0 + 1500 * (rows - 1); }, .chance = 0.6};
  slow.draft_ns = 300;
  World world = slow;
  world.compute_ns = [](int rows) { return 1000.0 + 750 * (rows - 1); };
  SimulatedRun run(Options(1, /*is_drafting_free=*/false));
  double rates = 0;
  for (int i = 0; i < 10; ++i) {
    run.Steps(slow, 40);
    run.Restart();
    run.Steps(world, 400);
    rates += run.tokens_per_ns();
    EXPECT_GT(run.tokens_per_ns(), 0.9 * FixedRate(world, 0)) << i;
  }
  EXPECT_GT(rates / 10, 0.97 * FixedRate(world, 0));
}

TEST(Governor, SequencesWithBetterChancesGetLongerDrafts) {
  Governor governor(Options(2));
  for (int i = 0; i < 200; ++i) {
    governor.ObserveDrafts(0, 4, 4);
    governor.ObserveDrafts(1, 1, i % 4 == 0 ? 1 : 0);
    const int more = i / 4 % 17;  // all sizes, a few times each
    governor.ObserveStep(
        {.cost = {.rows = 2 + more, .compute_ns = 1000.0 + 300 * more}, .sequences = 2});
  }
  Governor::Candidate candidates[] = {{.slot = 0, .room = 8}, {.slot = 1, .room = 8}};
  governor.Choose(absl::MakeSpan(candidates));
  EXPECT_GT(candidates[0].check, candidates[1].check);
}

// The experts of two tokens are twice those of one, but those of four are not many more.
TEST(Governor, FindsALengthThatPaysBehindOneThatDoesNot) {
  const World world = {.missing =
                           [](int rows) {
                             const double missing[] = {0, 16, 32, 36, 40};
                             return rows <= 4 ? missing[rows] : 10.0 * rows;
                           },
                       .wait_per_missing_ns = 500,
                       .chance = 0.9,
                       .draft_ns = 1500};
  ASSERT_LT(FixedRate(world, 1), FixedRate(world, 0));
  SimulatedRun run(Options(1, /*is_drafting_free=*/false));
  run.Steps(world, 1000);
  run.Restart();
  run.Steps(world, 2000);
  EXPECT_GT(run.tokens_per_ns(), 1.1 * FixedRate(world, 0));
  EXPECT_GT(run.tokens_per_ns(), 0.93 * BestFixedRate(world));
}

// Where each row costs as much as the one before, a step of a batch has another size each time.
TEST(Governor, ABatchWhoseEveryRowCostsTheSameIsNotMadeSlower) {
  constexpr int kSequences = 16;
  const World world = {.compute_ns = [](int rows) { return 1.5e6 + 0.12e6 * rows; },
                       .chance = 0.65,
                       .draft_ns = 0.06e6};
  SimulatedRun run(Options(kSequences, /*is_drafting_free=*/false));
  run.Steps(world, 1000);
  EXPECT_GT(run.tokens_per_ns(), 0.98 * kSequences / world.compute_ns(kSequences));
}

TEST(Governor, DraftsAreCheckedOnWhenAFewSequencesHaveEnded) {
  constexpr int kSequences = 16;
  Governor governor(Options(kSequences));
  std::vector<Governor::Candidate> candidates;
  for (int slot = 0; slot < kSequences; ++slot) candidates.push_back({.slot = slot, .room = 100});
  const auto step = [&](absl::Span<Governor::Candidate> of) {
    governor.Choose(of);
    int checked = 0;
    for (const Governor::Candidate& candidate : of) {
      checked += candidate.check;
      governor.ObserveDrafts(candidate.slot, candidate.draft, candidate.draft);
    }
    const int sequences = static_cast<int>(of.size());
    governor.ObserveStep({.cost = {.rows = sequences + checked, .compute_ns = 1000},
                          .sequences = sequences,
                          .tokens = sequences + checked,
                          .checked = checked});
    return checked;
  };
  int checked = 0;
  for (int i = 0; i < 100; ++i) checked = step(absl::MakeSpan(candidates));
  while (checked == 0) checked = step(absl::MakeSpan(candidates));
  EXPECT_GT(step(absl::MakeSpan(candidates).first(kSequences - 2)), 0);
}

TEST(Governor, AFixedLengthIsKeptTo) {
  Governor::Options options = Options(2);
  options.fixed_length = 3;
  Governor governor(options);
  Governor::Candidate candidates[] = {{.slot = 0, .room = 8}, {.slot = 1, .room = 2}};
  governor.Choose(absl::MakeSpan(candidates));
  EXPECT_EQ(candidates[0].check, 3);
  EXPECT_EQ(candidates[1].check, 2);
}

TEST(Governor, AVerdictDoesNotFlickerWithNoise) {
  World world = Streamed(0.8);
  std::mt19937_64 random(3);
  std::normal_distribution<> noise(1, 0.1);
  const auto quiet = world.compute_ns;
  world.compute_ns = [&](int rows) { return quiet(rows) * std::max(0.5, noise(random)); };
  SimulatedRun run(Options(1));
  run.Steps(world, 200);
  int changes = 0;
  bool was_on = run.governor().is_on();
  for (int i = 0; i < 2000; ++i) {
    run.Steps(world, 1);
    changes += run.governor().is_on() != was_on;
    was_on = run.governor().is_on();
  }
  EXPECT_LT(changes, 20);
}

TEST(Governor, PredictsStepsThatItHasSeen) {
  const World world = Streamed(0.9);
  SimulatedRun run(Options(1));
  run.Steps(world, 500);
  for (int rows = 1; rows <= 9; ++rows) {
    const double expected = world.compute_ns(rows) + world.missing(rows) * 500;
    EXPECT_NEAR(run.governor().PredictNs(rows), expected, 0.15 * expected) << rows;
  }
}

TEST(Governor, CountsWhatWasWonAgainstNoDrafts) {
  const World world = {.chance = 0.9};
  SimulatedRun run(Options(1));
  run.Steps(world, 1000);
  const Governor::Totals& totals = run.governor().totals();
  EXPECT_GT(totals.won_ns, totals.step_ns);  // more than twice as fast
  EXPECT_EQ(totals.steps, 1000u);
}

TEST(Governor, WhatWasWonIsANumberThoughNoStepWithoutDraftsCameFirst) {
  Governor::Options options = Options(1);
  options.fixed_length = 1;
  Governor governor(options);
  for (int i = 0; i < 4; ++i) {
    governor.ObserveStep(
        {.cost = {.rows = 2, .compute_ns = 1000}, .sequences = 1, .tokens = 2, .checked = 1});
  }
  for (int i = 0; i < 8; ++i) {  // the last tokens of a text, with no room for drafts
    governor.ObserveStep({.cost = {.rows = 1, .compute_ns = 900}, .sequences = 1});
  }
  EXPECT_TRUE(std::isfinite(governor.totals().won_ns));
}

TEST(Governor, WhatACacheThatFillsSavesIsNotCountedAsWon) {
  World world = {.compute_ns = [](int rows) { return 1000.0 + 200 * rows; },
                 .wait_per_missing_ns = 500,
                 .chance = 0.9};
  SimulatedRun run(Options(1));
  for (int left = 20; left >= 0; --left) {
    world.missing = [left](int rows) { return left * std::pow(rows, 0.5); };
    run.Steps(world, 10);
  }
  run.Steps(world, 400);
  const Governor::Totals& totals = run.governor().totals();
  EXPECT_GT(run.won_ns(), 0);
  EXPECT_NEAR(totals.won_ns, run.won_ns(), 0.1 * run.won_ns());
}

}  // namespace
}  // namespace stoker
