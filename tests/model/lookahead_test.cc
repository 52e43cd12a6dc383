// Guesses of the next layers' routers: what they promise, and how good they are on a trained model.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <set>
#include <vector>

#include "base/status.h"
#include "model/step_observer.h"
#include "tests/model/loaded_model.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

std::string Shipped() { return SourceDir() + "/models/moe-27m.q4_k.gguf"; }

LoadedModel::Options WithLookahead(int rows) {
  LoadedModel::Options options;
  options.model.lookahead_rows_max = rows;
  return options;
}

// Compares each guess with what the router then chose, of one row a step.
class Comparison final : public StepObserver {
 public:
  explicit Comparison(int layers) : layers_(layers) {}

  void OnStep(absl::Span<const StepRow> rows) override {
    ++step_count;
    row_count_ = static_cast<int>(rows.size());
    guesses_.clear();
  }
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float>) override {
    for (int ahead = 1; ahead <= kLookaheadLayersMax; ++ahead) {
      const auto guess = guesses_.find({layer - ahead, layer});
      if (guess == guesses_.end()) continue;
      const auto& [ids, count] = guess->second;
      for (int rank = 0; rank < top_k; ++rank) {
        const auto begin = ids.begin();
        ++chosen[ahead];
        in_top[ahead] += std::count(begin, begin + top_k, experts[static_cast<size_t>(rank)]);
        in_all[ahead] += std::count(begin, begin + count, experts[static_cast<size_t>(rank)]);
      }
    }
  }
  int lookahead_layers(int) override { return layers_; }
  void OnLookahead(int layer, int target, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float> scores) override {
    ASSERT_EQ(experts.size(), static_cast<size_t>(row_count_ * count));
    ASSERT_EQ(scores.size(), experts.size());
    EXPECT_GT(target, layer);
    for (int row = 0; row < row_count_; ++row) {
      const auto of_row =
          experts.subspan(static_cast<size_t>(row * count), static_cast<size_t>(count));
      EXPECT_EQ(std::set<int32_t>(of_row.begin(), of_row.end()).size(), of_row.size());
    }
    guesses_[{layer, target}] = {{experts.begin(), experts.end()}, count};
    ++guess_count;
  }

  int step_count = 0;
  int guess_count = 0;
  // By layers ahead: experts chosen, and those of them among the best top_k and among all guessed.
  std::map<int, int64_t> chosen, in_top, in_all;

 private:
  const int layers_;
  int row_count_ = 0;
  std::map<std::pair<int, int>, std::pair<std::vector<int32_t>, int>> guesses_;
};

std::vector<int32_t> SomeTokens(int count) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * 37 + 11) % 4000);
  return tokens;
}

TEST(Lookahead, GuessesAreMadeForTheLayersAskedForAndChangeNoLogits) {
  auto plain = LoadedModel::Open(Shipped(), {});
  ASSERT_TRUE(plain.ok()) << MessageOf(plain.status());
  const std::vector<int32_t> tokens = SomeTokens(24);
  const std::vector<float> want = (*plain)->Run(tokens, 1).logits;
  for (const int layers : {0, 1, 4}) {
    auto model = LoadedModel::Open(Shipped(), WithLookahead(8));
    ASSERT_TRUE(model.ok()) << MessageOf(model.status());
    Comparison comparison(layers);
    (*model)->Observe(&comparison);
    EXPECT_EQ((*model)->Run(tokens, 1).logits, want) << layers;
    // Six mixture layers: one guess less for each layer that the model ends before.
    const int guesses_a_step = layers == 0 ? 0 : layers == 1 ? 5 : 4 + 4 + 3 + 2 + 1;
    EXPECT_EQ(comparison.guess_count, guesses_a_step * comparison.step_count);
  }
}

TEST(Lookahead, ALayerThatIsNotWantedIsPassedOver) {
  class AllButOne final : public StepObserver {
   public:
    void OnRouting(int, int, absl::Span<const int32_t>, absl::Span<const float>) override {}
    int lookahead_layers(int) override { return 2; }
    bool wants_lookahead(int, int target_layer) override { return target_layer != 3; }
    void OnLookahead(int layer, int target, int, absl::Span<const int32_t>,
                     absl::Span<const float>) override {
      guessed.insert({layer, target});
    }
    std::set<std::pair<int, int>> guessed;
  } observer;
  auto model = LoadedModel::Open(Shipped(), WithLookahead(8));
  ASSERT_TRUE(model.ok()) << MessageOf(model.status());
  (*model)->Observe(&observer);
  (*model)->Run(SomeTokens(1), 1);
  const std::set<std::pair<int, int>> want = {{1, 2}, {2, 4}, {3, 4}, {3, 5},
                                              {4, 5}, {4, 6}, {5, 6}};
  EXPECT_EQ(observer.guessed, want);
}

TEST(Lookahead, LargeStepsAreNotGuessed) {
  auto model = LoadedModel::Open(Shipped(), WithLookahead(8));
  ASSERT_TRUE(model.ok()) << MessageOf(model.status());
  Comparison comparison(4);
  (*model)->Observe(&comparison);
  (*model)->Run(SomeTokens(9), 9);
  EXPECT_EQ(comparison.guess_count, 0);
  (*model)->Reset();
  (*model)->Run(SomeTokens(8), 8);
  EXPECT_GT(comparison.guess_count, 0);
}

// By chance 6 of 64 guesses would be right.
TEST(Lookahead, NextLayersOfATrainedModelAreGuessedFarAboveChance) {
  auto model = LoadedModel::Open(Shipped(), WithLookahead(1));
  ASSERT_TRUE(model.ok()) << MessageOf(model.status());
  Comparison comparison(4);
  (*model)->Observe(&comparison);
  (*model)->Run(SomeTokens(200), 1);
  for (int ahead = 1; ahead <= 4; ++ahead) {
    const auto chosen = static_cast<double>(comparison.chosen[ahead]);
    const double top = static_cast<double>(comparison.in_top[ahead]) / chosen;
    const double all = static_cast<double>(comparison.in_all[ahead]) / chosen;
    std::cout << ahead << " ahead: recall " << top << " of as many, " << all << " of all guessed\n";
    EXPECT_GT(top, 3 * 6.0 / 64) << ahead;
    EXPECT_GT(all, top) << ahead;
  }
}

}  // namespace
}  // namespace stoker
