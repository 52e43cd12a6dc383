// Claims of sampler.h and sampling_math.h.
#include "runtime/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "runtime/sampling_math.h"

namespace stoker {
namespace {

using testing::ElementsAre;

// Everything off but the draw itself.
SamplingOptions Plain() { return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0}; }

TokenId SampleOne(std::vector<float> logits, const SamplingOptions& options,
                  const std::vector<TokenId>& history = {0}) {
  Sampler sampler(static_cast<int>(logits.size()), 1024);
  const absl::StatusOr<TokenId> token = sampler.Sample(absl::MakeSpan(logits), history, options);
  EXPECT_TRUE(token.ok()) << token.status();
  return token.value_or(-1);
}

// The tokens that come out over many seeds.
std::set<TokenId> Support(const std::vector<float>& logits, SamplingOptions options,
                          const std::vector<TokenId>& history = {0}) {
  std::set<TokenId> support;
  for (options.seed = 0; options.seed < 2000; ++options.seed) {
    support.insert(SampleOne(logits, options, history));
  }
  return support;
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (const float logit : logits) sum += p.emplace_back(std::exp(logit / temperature));
  for (double& value : p) value /= sum;
  return p;
}

// Pearson's statistic of counts against probabilities.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& p) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = total * p[i];
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

// A chi-square variable with d degrees of freedom is above this with probability at most 1e-9:
// P(X >= d + 2 sqrt(d x) + 2 x) <= e^-x (Laurent and Massart 2000, lemma 1), x = ln 1e9. Pearson's
// statistic is close to that when every expected count is well above 5, as here.
double ChiSquareBound(double degrees) {
  const double x = std::log(1e9);
  return degrees + 2 * std::sqrt(degrees * x) + 2 * x;
}

TEST(Sampler, TemperatureZeroTakesTheBestAndOfEqualsTheLowerId) {
  SamplingOptions greedy = {.temperature = 0};
  EXPECT_EQ(SampleOne({1, 3, 2, 3}, greedy), 1);
  EXPECT_EQ(SampleOne({-5, -5, -5}, greedy), 0);
  EXPECT_EQ(SampleOne({-1, std::numeric_limits<float>::quiet_NaN(), -0.5f}, greedy), 2);
}

TEST(Sampler, NoFiniteLogitIsAnError) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  Sampler sampler(3, 8);
  for (const float temperature : {0.0f, 1.0f}) {
    std::vector<float> logits = {nan, infinity, -infinity};
    SamplingOptions options = Plain();
    options.temperature = temperature;
    EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), {}, options).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplingOptions options = {.temperature = 0, .repetition_penalty = 2};
  std::vector<float> logits = {4, -4, 1, -1};
  Sampler sampler(4, 8);
  ASSERT_TRUE(sampler.Sample(absl::MakeSpan(logits), {0, 1, 0, 1, 0}, options).ok());
  EXPECT_THAT(logits, ElementsAre(2, -8, 1, -1));
}

TEST(Sampler, FrequencyCountsOccurrencesAndPresenceDoesNot) {
  SamplingOptions options = {
      .temperature = 0, .frequency_penalty = 0.5f, .presence_penalty = 0.25f};
  std::vector<float> logits = {4, 4, 4};
  Sampler sampler(3, 8);
  ASSERT_TRUE(sampler.Sample(absl::MakeSpan(logits), {0, 0, 0, 2}, options).ok());
  EXPECT_THAT(logits, ElementsAre(4 - 1.5f - 0.25f, 4, 4 - 0.5f - 0.25f));
}

TEST(Sampler, PenaltiesLookBackTheirWindowOnly) {
  SamplingOptions options = {.temperature = 0, .presence_penalty = 1, .penalty_window = 2};
  Sampler sampler(4, 8);
  std::vector<float> logits = {9, 9, 9, 9};
  ASSERT_TRUE(sampler.Sample(absl::MakeSpan(logits), {0, 1, 2}, options).ok());
  EXPECT_THAT(logits, ElementsAre(9, 8, 8, 9));
  options.penalty_window = -1;
  logits = {9, 9, 9, 9};
  ASSERT_TRUE(sampler.Sample(absl::MakeSpan(logits), {0, 1, 2}, options).ok());
  EXPECT_THAT(logits, ElementsAre(8, 8, 8, 9));
  options.penalty_window = 0;
  logits = {9, 9, 9, 9};
  ASSERT_TRUE(sampler.Sample(absl::MakeSpan(logits), {0, 1, 2}, options).ok());
  EXPECT_THAT(logits, ElementsAre(9, 9, 9, 9));
}

TEST(Sampler, TopKKeepsTheBestKAndOfEqualsTheLowerIds) {
  SamplingOptions options = Plain();
  options.top_k = 3;
  EXPECT_THAT(Support({0, 1, 0.5f, 0.5f, 0.5f, -1}, options), ElementsAre(1, 2, 3));
  options.top_k = 1;
  EXPECT_THAT(Support({0, 1, 0.5f}, options), ElementsAre(1));
  options.top_k = 100;
  EXPECT_THAT(Support({0, 1, 0.5f}, options), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  // Probabilities 0.4, 0.3, 0.2, 0.1.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f),
                                     std::log(0.3f)};
  SamplingOptions options = Plain();
  options.top_p = 0.39f;
  EXPECT_THAT(Support(logits, options), ElementsAre(1));
  options.top_p = 0.69f;
  EXPECT_THAT(Support(logits, options), ElementsAre(1, 3));
  options.top_p = 0.71f;
  EXPECT_THAT(Support(logits, options), ElementsAre(1, 2, 3));
  options.top_p = 0.95f;
  EXPECT_THAT(Support(logits, options), ElementsAre(0, 1, 2, 3));
}

// More candidates than one sorted piece: the prefix must not depend on how far was sorted.
TEST(Sampler, TopPOverALargeVocabularyKeepsThePrefixOfTheSortedOrder) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> logits(5000);
  for (float& logit : logits) logit = normal(random);
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  const std::vector<double> p = Softmax(logits, 1);
  double sum = 0;
  size_t kept = 0;
  while (sum < 0.8) sum += p[order[kept++]];
  const std::set<TokenId> allowed(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept));
  ASSERT_GT(kept, 1024u);

  SamplingOptions options = Plain();
  options.top_p = 0.8f;
  for (options.seed = 0; options.seed < 500; ++options.seed) {
    EXPECT_TRUE(allowed.contains(SampleOne(logits, options)));
  }
}

TEST(Sampler, MinPKeepsWhatIsNearEnoughToTheBest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.26f), std::log(0.2f),
                                     std::log(0.04f)};
  SamplingOptions options = Plain();
  options.min_p = 0.5f;
  EXPECT_THAT(Support(logits, options), ElementsAre(0, 1));
  options.min_p = 1;
  EXPECT_THAT(Support(logits, options), ElementsAre(0));
}

TEST(Sampler, FiltersComeBeforeTemperature) {
  // At temperature 10 the two are nearly alike; min-p judges them as they came.
  SamplingOptions options = Plain();
  options.temperature = 10;
  options.min_p = 0.1f;
  EXPECT_THAT(Support({5, 0}, options), ElementsAre(0));
}

TEST(Sampler, FrequenciesOverSeedsFollowTheSoftmax) {
  const std::vector<float> logits = {0, 1.5f, -0.5f, 0.75f, 1, -1};
  SamplingOptions options = Plain();
  options.temperature = 0.7f;
  std::vector<int> counts(logits.size());
  for (options.seed = 0; options.seed < 40000; ++options.seed) {
    ++counts[static_cast<size_t>(SampleOne(logits, options))];
  }
  EXPECT_LT(ChiSquare(counts, Softmax(logits, 0.7)), ChiSquareBound(5));
}

// Neighbouring positions of one seed: each follows the softmax, and pairs follow the product.
TEST(Sampler, DrawsAtNeighbouringPositionsAreIndependent) {
  const std::vector<float> logits = {0, 1, -0.5f};
  Sampler sampler(3, 64000);
  std::vector<TokenId> history = {0};
  std::vector<int> pairs(9);
  SamplingOptions options = Plain();
  options.seed = 1234567890123456789u;
  TokenId former = -1;
  for (int i = 0; i < 60000; ++i) {
    std::vector<float> copy = logits;
    const TokenId token = *sampler.Sample(absl::MakeSpan(copy), history, options);
    if (i % 2 == 1) ++pairs[static_cast<size_t>(former * 3 + token)];
    former = token;
    history.push_back(token);
  }
  const std::vector<double> p = Softmax(logits, 1);
  std::vector<double> products;
  for (const double a : p) {
    for (const double b : p) products.push_back(a * b);
  }
  EXPECT_LT(ChiSquare(pairs, products), ChiSquareBound(8));
}

TEST(Sampler, TokenIsAFunctionOfItsArguments) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(300);
  for (float& logit : logits) logit = normal(random);
  const SamplingOptions options = {.repetition_penalty = 1.1f, .seed = 99};
  const std::vector<TokenId> history = {5, 6, 7, 5};
  const TokenId alone = SampleOne(logits, options, history);

  Sampler used(300, 1024);  // one that has drawn other things before
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> other(300, static_cast<float>(seed));
    SamplingOptions others = Plain();
    others.seed = seed;
    ASSERT_TRUE(used.Sample(absl::MakeSpan(other), {1, 2}, others).ok());
  }
  EXPECT_EQ(*used.Sample(absl::MakeSpan(logits), history, options), alone);
}

// The token is the argmax of logit / temperature + noise, so a logit that is out of reach of all
// noise changes nothing: what speculation relies on.
TEST(Sampler, NoiseIsKeyedByTokenIdNotByPlaceAmongCandidates) {
  SamplingOptions options = Plain();
  for (options.seed = 0; options.seed < 200; ++options.seed) {
    const TokenId whole = SampleOne({-500, 0.1f, -500, 0.3f, 0.2f}, options);
    SamplingOptions filtered = options;
    filtered.top_k = 3;
    EXPECT_EQ(SampleOne({-500, 0.1f, -500, 0.3f, 0.2f}, filtered), whole);
  }
}

// Known answers of the Random123 library's distribution (kat_vectors, philox4x32 10).
TEST(SamplingMath, PhiloxGivesThePublishedVectors) {
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

double UlpsApart(double value, long double exact) {
  const double nearest = static_cast<double>(exact);
  const double ulp = std::nextafter(std::fabs(nearest), INFINITY) - std::fabs(nearest);
  return static_cast<double>(std::fabs(static_cast<long double>(value) - exact) / ulp);
}

TEST(SamplingMath, ExpAndLogAreWithinOneUlp) {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<double> exponent(-700, 0), unit(0, 1), scale(-300, 300);
  double worst_exp = 0, worst_log = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = i % 2 == 0 ? exponent(random) : -unit(random);
    worst_exp = std::max(worst_exp, UlpsApart(PortableExp(x), expl(x)));
    const double y = i % 2 == 0 ? unit(random) + 0x1p-60 : std::pow(10.0, scale(random));
    worst_log = std::max(worst_log, UlpsApart(PortableLog(y), logl(y)));
  }
  EXPECT_LT(worst_exp, 1);
  EXPECT_LT(worst_log, 1);
  EXPECT_EQ(PortableExp(0), 1);
  EXPECT_EQ(PortableExp(-1e6), 0);
  EXPECT_EQ(PortableLog(1), 0);
}

TEST(SamplingMath, GumbelNoiseIsFiniteAndCentred) {
  double sum = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double noise = GumbelNoise(3, i, 17);
    ASSERT_TRUE(std::isfinite(noise));
    sum += noise;
  }
  // Mean: Euler's constant; deviation of the mean pi / sqrt(6 n) = 0.0041. Six of them.
  EXPECT_NEAR(sum / kCount, 0.5772156649, 6 * 0.0041);
}

}  // namespace
}  // namespace stoker
