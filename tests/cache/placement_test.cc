// The split of experts between host and device: near the best there is, and steady.
#include "cache/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "cache/promotion.h"

namespace stoker {
namespace {

LinkRates SomeRates() {
  return {.host = 60e9,
          .host_row = 240e9,
          .copy_in = 24e9,
          .host_beside_copy = 45e9,
          .copy_beside_host = 20e9,
          .device = 800e9};
}

std::vector<PlaceCandidate> Equal(int count, int32_t rows = 1, uint64_t bytes = 5 << 20) {
  std::vector<PlaceCandidate> experts;
  for (int i = 0; i < count; ++i) experts.push_back({.key = i, .bytes = bytes, .rows = rows});
  return experts;
}

LinkRates RandomRates(std::mt19937_64& random) {
  const auto rate = [&] { return std::exp2(static_cast<double>(random() % 80) / 10) * 1e9; };
  const auto share = [&] { return 0.3 + static_cast<double>(random() % 71) / 100; };
  LinkRates rates = {.host = rate(), .host_row = rate(), .copy_in = rate()};
  rates.host_beside_copy = rates.host * share();
  rates.copy_beside_host = rates.copy_in * share();
  if (random() % 4 > 0) {
    rates.device = std::max({rates.host, rates.host_row, rates.copy_in}) *
                   (1 + static_cast<double>(random() % 30) / 10);
  }
  return rates;
}

// When all is done if the experts of `copied` (a bit each) are copied.
double SecondsOf(const PlaceQuestion& question, const std::vector<PlaceCandidate>& experts,
                 unsigned copied) {
  std::vector<PlaceCandidate> ordered;
  for (const bool is_copied : {true, false}) {
    for (size_t i = 0; i < experts.size(); ++i) {
      if (((copied >> i & 1) != 0) == is_copied) ordered.push_back(experts[i]);
    }
  }
  return PlacedSeconds(question, ordered, __builtin_popcount(copied));
}

TEST(ChoosePlaces, SplitIsWithinOneExpertOfTheBest) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(round);
    const int count = 1 + static_cast<int>(random() % 9);
    std::vector<PlaceCandidate> experts = Equal(count);
    for (PlaceCandidate& expert : experts) {
      expert.rows = 1 + static_cast<int32_t>(random() % (round % 2 == 0 ? 2 : 40));
    }
    PlaceQuestion question = {.rates = RandomRates(random)};
    if (random() % 2 == 0) question.device_backlog_bytes = random() % (40 << 20);
    double best_s = SecondsOf(question, experts, 0);
    for (unsigned copied = 1; copied < 1u << count; ++copied) {
      best_s = std::min(best_s, SecondsOf(question, experts, copied));
    }
    // What one expert takes, wherever it is cheaper.
    double one_s = 0;
    for (const PlaceCandidate& expert : experts) {
      const std::vector<PlaceCandidate> alone = {expert};
      const PlaceQuestion idle = {.rates = question.rates};
      one_s = std::max(one_s, std::min(SecondsOf(idle, alone, 0), SecondsOf(idle, alone, 1)));
    }
    const int copy_count = ChoosePlaces(question, absl::MakeSpan(experts));
    EXPECT_LE(PlacedSeconds(question, experts, copy_count), best_s + one_s);
  }
}

TEST(ChoosePlaces, SplitOfExpertsThatCostTheSameIsTheBest) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 500; ++round) {
    const int count = 1 + static_cast<int>(random() % 200);
    std::vector<PlaceCandidate> experts = Equal(count, 1 + static_cast<int32_t>(random() % 30));
    const PlaceQuestion question = {.rates = RandomRates(random)};
    const int copy_count = ChoosePlaces(question, absl::MakeSpan(experts));
    const double chosen_s = PlacedSeconds(question, experts, copy_count);
    for (int other = 0; other <= count; ++other) {
      EXPECT_LE(chosen_s, PlacedSeconds(question, experts, other) * (1 + 1e-6));
    }
  }
}

TEST(ChoosePlaces, BothEndTogetherWhenExpertsAreMany) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    LinkRates rates = RandomRates(random);
    rates.device = 0;  // the device keeps up with any copy
    rates.copy_in = rates.host * (0.25 + static_cast<double>(random() % 16) / 4);
    // Beside each other they do more than either alone, or one would be left idle.
    rates.copy_beside_host = rates.copy_in * 0.8;
    rates.host_beside_copy = rates.host * 0.85;
    rates.host_row = rates.host;
    std::vector<PlaceCandidate> experts = Equal(100);
    const PlaceQuestion question = {.rates = rates};
    const int copied = ChoosePlaces(question, absl::MakeSpan(experts));
    ASSERT_GT(copied, 0);
    ASSERT_LT(copied, 100);
    const double bytes = static_cast<double>(experts[0].bytes);
    const double host_s = (100 - copied) * bytes / rates.host_beside_copy;
    const double copy_s = copied * bytes / rates.copy_beside_host;
    EXPECT_NEAR(host_s, copy_s, 0.15 * std::max(host_s, copy_s));
  }
}

TEST(ChoosePlaces, ExtremeRatesSendAllToOneSide) {
  LinkRates rates = SomeRates();
  rates.host = rates.host_beside_copy = 1e6;
  std::vector<PlaceCandidate> experts = Equal(30);
  EXPECT_EQ(ChoosePlaces({.rates = rates}, absl::MakeSpan(experts)), 30);
  rates = SomeRates();
  rates.copy_in = rates.copy_beside_host = 1e6;
  EXPECT_EQ(ChoosePlaces({.rates = rates}, absl::MakeSpan(experts)), 0);
}

TEST(ChoosePlaces, UnknownRatesCopyNothing) {
  std::vector<PlaceCandidate> experts = Equal(8);
  EXPECT_EQ(ChoosePlaces({}, absl::MakeSpan(experts)), 0);
  EXPECT_EQ(ChoosePlaces({.rates = {.host = 1e9}}, absl::MakeSpan(experts)), 0);
  EXPECT_EQ(ChoosePlaces({.rates = {.copy_in = 1e9}}, absl::MakeSpan(experts)), 0);
  EXPECT_GT(ChoosePlaces({.rates = {.host = 1e9, .copy_in = 1e9}}, absl::MakeSpan(experts)), 0);
}

TEST(ChoosePlaces, FasterLinkTakesNoLessAndFasterHostLeavesNoMore) {
  for (const int32_t rows : {1, 3, 50}) {
    int last = -1;
    for (double factor = 0.05; factor < 40; factor *= 1.15) {
      LinkRates rates = SomeRates();
      rates.copy_in *= factor;
      rates.copy_beside_host *= factor;
      std::vector<PlaceCandidate> experts = Equal(24, rows);
      const int copied = ChoosePlaces({.rates = rates}, absl::MakeSpan(experts));
      EXPECT_GE(copied, last) << factor;
      last = copied;
    }
    EXPECT_GT(last, 0);
    for (double factor = 0.05; factor < 40; factor *= 1.15) {
      LinkRates rates = SomeRates();
      rates.host *= factor;
      rates.host_row *= factor;
      rates.host_beside_copy *= factor;
      std::vector<PlaceCandidate> experts = Equal(24, rows);
      const int copied = ChoosePlaces({.rates = rates}, absl::MakeSpan(experts));
      if (factor > 0.05) {
        EXPECT_LE(copied, last) << factor;
      }
      last = copied;
    }
    EXPECT_LT(last, 24);
  }
}

TEST(ChoosePlaces, BusyDeviceIsSentLess) {
  LinkRates rates = SomeRates();
  rates.device = rates.copy_in;
  std::vector<PlaceCandidate> experts = Equal(16);
  const int idle = ChoosePlaces({.rates = rates}, absl::MakeSpan(experts));
  const int busy = ChoosePlaces({.rates = rates, .device_backlog_bytes = uint64_t{40} << 20},
                                absl::MakeSpan(experts));
  EXPECT_GT(idle, busy);
}

TEST(ChoosePlaces, ThoseWithMostRowsAreCopiedAndAmongEqualsThoseWorthKeeping) {
  LinkRates rates = SomeRates();
  std::vector<PlaceCandidate> experts = Equal(6);
  experts[4].rows = 30;
  experts[1].rows = 20;
  experts[3].is_worth_keeping = true;
  ASSERT_GT(ChoosePlaces({.rates = rates}, absl::MakeSpan(experts)), 0);
  std::vector<int32_t> keys;
  for (const PlaceCandidate& expert : experts) keys.push_back(expert.key);
  EXPECT_EQ(keys, (std::vector<int32_t>{4, 1, 3, 0, 2, 5}));
}

TEST(ChoosePlaces, ForcedRulesDoNotLookAtRates) {
  std::vector<PlaceCandidate> experts = Equal(5);
  const auto copied = [&](PlaceRule rule, bool is_from_file) {
    return ChoosePlaces({.rule = rule, .rates = SomeRates(), .is_from_file = is_from_file},
                        absl::MakeSpan(experts));
  };
  for (const bool is_from_file : {false, true}) {
    EXPECT_EQ(copied(PlaceRule::kGpu, is_from_file), 5);
    EXPECT_EQ(copied(PlaceRule::kCpu, is_from_file), 0);
    EXPECT_EQ(copied(PlaceRule::kCopy, is_from_file), is_from_file ? 0 : 5);
  }
}

TEST(LinkEstimates, FollowWhatIsMeasured) {
  LinkEstimates estimates(SomeRates());
  const uint64_t bytes = 10 << 20;
  // One row at 30 GB/s, half of what was thought.
  for (int i = 0; i < 100; ++i) {
    estimates.NoteHost(bytes, bytes, static_cast<int64_t>(static_cast<double>(bytes) / 30), false);
  }
  EXPECT_NEAR(estimates.rates().host, 30e9, 0.1e9);
  EXPECT_EQ(estimates.rates().host_row, SomeRates().host_row);
  EXPECT_EQ(estimates.rates().host_beside_copy, SomeRates().host_beside_copy);
  // Beside a copy, and with many rows: other rates.
  estimates.NoteHost(bytes, bytes, static_cast<int64_t>(static_cast<double>(bytes) / 10), true);
  EXPECT_LT(estimates.rates().host_beside_copy, SomeRates().host_beside_copy);
  estimates.NoteHost(bytes, bytes * 100, static_cast<int64_t>(static_cast<double>(bytes)), false);
  EXPECT_LT(estimates.rates().host_row, SomeRates().host_row);
  EXPECT_NEAR(estimates.rates().host, 30e9, 0.1e9);
  estimates.NoteCopyIn(bytes, static_cast<int64_t>(bytes), false);
  EXPECT_NEAR(estimates.rates().copy_in, 24e9 - 23e9 / 8, 1e6);
  estimates.NoteCopyOut(bytes, static_cast<int64_t>(bytes));
  EXPECT_NEAR(estimates.rates().copy_out, 1e9, 1e6);  // was not known: taken whole
}

TEST(LinkEstimates, TinySamplesSayNothing) {
  LinkEstimates estimates(SomeRates());
  estimates.NoteHost(LinkEstimates::kSampleBytesMin - 1, 1 << 20, 1'000'000'000, false);
  estimates.NoteHost(1 << 30, 1 << 30, 0, false);
  estimates.NoteCopyIn(LinkEstimates::kSampleBytesMin - 1, 1'000'000'000, false);
  estimates.NoteCopyOut(0, 1'000'000'000);
  EXPECT_EQ(estimates.rates().host, SomeRates().host);
  EXPECT_EQ(estimates.rates().host_row, SomeRates().host_row);
  EXPECT_EQ(estimates.rates().copy_in, SomeRates().copy_in);
  EXPECT_EQ(estimates.rates().copy_out, 0);
}

TEST(PromotionRule, AdmitsWhatCameBackSoonerThanTheResident) {
  PromotionRule rule(4);
  rule.Used(0);
  rule.Used(1);
  EXPECT_FALSE(rule.Admits(1, 0));  // used once only
  rule.Used(1);
  EXPECT_TRUE(rule.Admits(1, 0));
  rule.Used(0);
  EXPECT_FALSE(rule.Admits(1, 0));
  EXPECT_TRUE(rule.Admits(0, 2));  // never used: anything used twice is better
  EXPECT_FALSE(rule.Admits(2, 3));
}

}  // namespace
}  // namespace stoker
