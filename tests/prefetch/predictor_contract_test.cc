// Asks every predictor of the registry the same questions.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "prefetch/prefetcher.h"
#include "tests/cache/allocation_count.h"

namespace stoker {
namespace {

constexpr int kTopK = 4;

PredictorShape Shape() {
  return {.expert_counts = {16, 16, 8, 32}, .top_k = kTopK, .sequence_count = 3, .rows_max = 4};
}

std::vector<int32_t> Distinct(std::mt19937_64& random, int expert_count, int count) {
  std::vector<int32_t> ids(static_cast<size_t>(expert_count));
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  ids.resize(static_cast<size_t>(count));
  return ids;
}

class PredictorContract : public testing::TestWithParam<const PredictorRow*> {
 protected:
  static PredictorChoice Choice() { return *ChoosePredictor(GetParam()->name); }

  // Plays a seeded run of steps, small and large; calls `check` with each proposal.
  template <typename Check>
  static void Play(Predictor& predictor, uint64_t seed, int step_count, Check check) {
    const PredictorShape shape = Shape();
    std::mt19937_64 random(seed);
    int positions[3] = {};
    for (int step = 0; step < step_count; ++step) {
      std::vector<PredictedRow> rows;
      for (int sequence = 0; sequence < 3; ++sequence) {
        if (random() % 4 == 0) continue;
        if (random() % 16 == 0) positions[sequence] = 0;
        const int count = positions[sequence] == 0 ? 1 + static_cast<int>(random() % 40) : 1;
        for (int i = 0; i < count; ++i) {
          rows.push_back({sequence, positions[sequence]++, static_cast<int32_t>(random() % 30)});
        }
        if (random() % 2 == 0) {
          predictor.OnDraft({sequence, positions[sequence], static_cast<int32_t>(random() % 30)});
        }
      }
      if (rows.empty()) continue;
      PlayStep(predictor, random, rows, check);
    }
  }

  template <typename Check>
  static void PlayStep(Predictor& predictor, std::mt19937_64& random,
                       const std::vector<PredictedRow>& rows, Check check) {
    const PredictorShape shape = Shape();
    const bool is_guessed = rows.size() <= static_cast<size_t>(shape.rows_max);
    predictor.OnStep(rows);
    for (int layer = 0; layer < shape.layer_count(); ++layer) {
      predictor.OnRouting(layer, kTopK, Ids(random, layer, kTopK, rows.size()));
      if (!is_guessed) continue;
      for (int d = 1; d <= predictor.layers_ahead(); ++d) {
        const int target = (layer + d) % shape.layer_count();
        if (d < shape.layer_count()) Ask(predictor, target, rows.size(), check);
      }
      for (int d = 1; d <= predictor.lookahead_layers(); ++d) {
        const int target = layer + d;
        if (target >= shape.layer_count()) break;
        const int count = std::min(2 * kTopK, shape.expert_counts[target]);
        predictor.OnLookahead(target, count, Ids(random, target, count, rows.size()));
        Ask(predictor, target, rows.size(), check);
      }
    }
  }

  static std::vector<int32_t> Ids(std::mt19937_64& random, int layer, int count, size_t rows) {
    std::vector<int32_t> ids;
    for (size_t row = 0; row < rows; ++row) {
      const auto of_row = Distinct(random, Shape().expert_counts[layer], count);
      ids.insert(ids.end(), of_row.begin(), of_row.end());
    }
    return ids;
  }

  template <typename Check>
  static void Ask(Predictor& predictor, int target, size_t rows, Check check) {
    std::vector<float> confidences(static_cast<size_t>(Shape().expert_counts[target]), 0.0f);
    predictor.Propose(target, absl::MakeSpan(confidences));
    check(confidences, rows);
  }
};

TEST_P(PredictorContract, ConfidencesAreSumsOverRowsOfSharesOfOne) {
  const auto predictor = Choice().Make(Shape());
  int named = 0;
  Play(*predictor, 1, 300, [&](const std::vector<float>& confidences, size_t rows) {
    for (const float confidence : confidences) {
      EXPECT_GE(confidence, 0);
      EXPECT_LE(confidence, static_cast<float>(rows) * 1.001f);
      named += confidence > 0 ? 1 : 0;
    }
  });
  EXPECT_GT(named, 100);
}

TEST_P(PredictorContract, ReplaysTheSame) {
  std::vector<float> runs[2];
  for (std::vector<float>& seen : runs) {
    const auto predictor = Choice().Make(Shape());
    Play(*predictor, 2, 200, [&](const std::vector<float>& confidences, size_t) {
      seen.insert(seen.end(), confidences.begin(), confidences.end());
    });
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST_P(PredictorContract, AddsToWhatIsThere) {
  const auto predictor = Choice().Make(Shape());
  std::mt19937_64 random(3);
  const auto ignore = [](const std::vector<float>&, size_t) {};
  for (int step = 0; step < 5; ++step) {
    PlayStep(*predictor, random, {{.sequence = 0, .position = step, .token = 9}}, ignore);
  }
  predictor->OnStep({{.sequence = 0, .position = 5, .token = 9}});
  const std::vector<int32_t> ids = {1, 2, 3, 4};
  predictor->OnRouting(0, kTopK, ids);
  predictor->OnLookahead(1, kTopK, ids);
  std::vector<float> confidences(16, 100.0f);
  predictor->Propose(1, absl::MakeSpan(confidences));
  for (const float confidence : confidences) EXPECT_GE(confidence, 100.0f);
}

TEST_P(PredictorContract, LearnsWhatAlwaysHappens) {
  const auto predictor = Choice().Make(Shape());
  const std::vector<int32_t> ids = {5, 1, 7, 2};
  std::vector<float> confidences;
  for (int step = 0; step < 20; ++step) {
    predictor->OnStep({{.sequence = 1, .position = step, .token = 9}});
    for (int layer = 0; layer < 4; ++layer) {
      predictor->OnRouting(layer, kTopK, ids);
      if (layer != 1) continue;
      predictor->OnLookahead(2, kTopK, ids);
      confidences.assign(8, 0.0f);
      predictor->Propose(2, absl::MakeSpan(confidences));
    }
  }
  for (const int32_t expert : ids) EXPECT_GT(confidences[expert], 0.2f) << expert;
  for (const int32_t expert : {0, 3, 4, 6}) EXPECT_EQ(confidences[expert], 0) << expert;
}

TEST_P(PredictorContract, TakesWhatWasPlannedAtConstructionAndNothingLater) {
  for (const int expert_count : {1, 8, 200}) {
    const PredictorShape shape = {.expert_counts = std::vector<int32_t>(20, expert_count),
                                  .top_k = 1,
                                  .sequence_count = 5,
                                  .rows_max = 8};
    const uint64_t planned = Choice().PlanBytes(shape);
    const AllocationCount allocations;
    const auto predictor = Choice().Make(shape);
    EXPECT_LE(static_cast<uint64_t>(allocations.HeldBytes()), planned) << expert_count;
    EXPECT_GE(2 * allocations.HeldBytes() + 4096, static_cast<int64_t>(planned));
    std::vector<float> confidences(static_cast<size_t>(expert_count));
    std::vector<PredictedRow> rows(64);
    const std::vector<int32_t> ids(64, 0);
    const AllocationCount later;
    for (int step = 0; step < 50; ++step) {
      const size_t count = step % 2 == 0 ? 64 : 1;
      for (PredictedRow& row : rows) row.token = (row.token + 7) % 5000;
      predictor->OnDraft({.sequence = 0, .position = 1, .token = step});
      predictor->OnStep(absl::MakeSpan(rows).first(count));
      for (int layer = 0; layer + 1 < 20; ++layer) {
        predictor->OnRouting(layer, 1, absl::MakeSpan(ids).first(count));
        if (count == 1) predictor->OnLookahead(layer + 1, 1, absl::MakeSpan(ids).first(1));
        predictor->Propose(layer + 1, absl::MakeSpan(confidences));
      }
    }
    EXPECT_EQ(later.Count(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, PredictorContract, testing::ValuesIn([] {
                           std::vector<const PredictorRow*> rows;
                           for (const PredictorRow& row : Predictors()) {
                             if (row.make != nullptr) rows.push_back(&row);
                           }
                           return rows;
                         }()),
                         [](const auto& row) {
                           std::string name(row.param->name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

TEST(Predictors, UnknownNameListsTheKnownOnes) {
  const auto choice = ChoosePrefetch("oracle");
  ASSERT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
  for (const char* name :
       {"none", "lookahead", "co-occurrence", "previous-token", "popularity", "token"}) {
    EXPECT_NE(Message(choice.status()).find(name), std::string::npos);
    EXPECT_EQ(ChoosePrefetch(name)->predictor.row->name, name);
  }
}

TEST(Predictors, ParametersAreCheckedWithTheirRange) {
  const auto refused = [](const char* key, double value, const char* part) {
    const auto choice = ChoosePrefetch("lookahead", {{Setting{.key = key, .value = value}}});
    EXPECT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_NE(Message(choice.status()).find(part), std::string::npos) << choice.status();
  };
  refused("lookahead.layers", 5, "from 1 to 4");
  refused("lookahead.layers", 1.5, "whole");
  refused("lookahead.depth", 1, "layers, experts");
  refused("hints.loads", 0, "from 1 to 8");
  const auto choice = ChoosePrefetch(
      "lookahead",
      {{Setting{.key = "lookahead.layers", .value = 3}, Setting{.key = "hints.loads", .value = 5},
        Setting{.key = "popularity.tokens", .value = -1}}});
  ASSERT_TRUE(choice.ok()) << choice.status();  // settings of other rows are passed over
  EXPECT_EQ(choice->predictor.values[0], 3);
  EXPECT_EQ(choice->loads_max, 5);
}

TEST(Predictors, NoneTakesNothing) {
  const PrefetchChoice none = *ChoosePrefetch("none");
  EXPECT_TRUE(none.is_none());
  EXPECT_EQ(none.loads_max, 0);
  EXPECT_EQ(Prefetcher::PlanBytes({}, {.choice = none, .top_k = 8}), 0u);
}

}  // namespace
}  // namespace stoker
