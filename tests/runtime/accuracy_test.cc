// How near the numbers are to those of another implementation, on models trained for that.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>

#include "io/safetensors.h"
#include "runtime/perplexity.h"
#include "tests/runtime/shipped_model.h"

namespace stoker {
namespace {

constexpr int kWindow = 512;

struct PerplexityCase {
  const char* model;
  double expected;  // decoded weights, float32, by PyTorch
};

class Perplexity : public testing::TestWithParam<PerplexityCase> {};

// Activations in 8 bits shift the mean a little, and both ways; half a per cent is what the
// reference page calls right.
TEST_P(Perplexity, IsWithinHalfAPercentOfTheFloatReference) {
  SKIP_WITHOUT_SHARED();
  EngineOptions options = SmallOptions();
  options.model_path = SharedPath("models/") + GetParam().model;
  options.context = kWindow;
  options.logits_rows_max = 64;
  const auto engine = OpenOrDie(options);
  std::ifstream file(SharedPath("models/text.txt"));
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<TokenId> ids = engine->tokenizer().Encode(text, {.add_special = false});
  ASSERT_EQ(ids.size(), 11053u);
  int64_t windows_seen = 0;
  const absl::StatusOr<PerplexityResult> result =
      MeasurePerplexity(*engine, ids, kWindow, [&](const PerplexityResult& so_far, int64_t total) {
        EXPECT_EQ(so_far.window_count, ++windows_seen);
        EXPECT_EQ(total, 21);
      });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->window_count, 21);
  EXPECT_EQ(result->position_count, 21 * 511);
  EXPECT_EQ(result->ids_left_out, 301);
  RecordProperty("perplexity", std::to_string(result->perplexity));
  std::printf("%s: perplexity %.3f, expected %.3f\n", GetParam().model, result->perplexity,
              GetParam().expected);
  EXPECT_NEAR(result->perplexity, GetParam().expected, 0.005 * GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(Models, Perplexity,
                         testing::Values(PerplexityCase{"moe-27m.q8_0.gguf", 67.883},
                                         PerplexityCase{"moe-27m.q4_k.gguf", 68.047},
                                         PerplexityCase{"draft-1m.bf16.gguf", 77.963},
                                         PerplexityCase{"draft-1m.q8_0.gguf", 77.972}));

// By the C library's F64. Sums are off by the roundings of their additions (47 of them for the
// largest vocabularies), of exponents and of exp, at most 100 half ulps together.
TEST(PerplexityMean, IsThatOfTheLogits) {
  EngineOptions options = SmallOptions();
  options.logits_rows_max = 7;
  const auto engine = OpenOrDie(options);
  std::vector<TokenId> ids(20);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(37 * i % 300);
  const auto vocab = static_cast<size_t>(engine->spec().config.vocab_count);
  double nats = 0;
  ASSERT_TRUE(engine
                  ->Evaluate(ids, false,
                             [&](const Engine::EvaluatedRows& rows) {
                               for (int row = 0; row < rows.rows; ++row) {
                                 const auto next = static_cast<size_t>(rows.first + row) + 1;
                                 if (next == ids.size()) break;
                                 const float* logits =
                                     rows.logits + static_cast<size_t>(row) * vocab;
                                 double sum = 0;
                                 for (size_t v = 0; v < vocab; ++v)
                                   sum += std::exp(double{logits[v]});
                                 nats += std::log(sum) - double{logits[ids[next]]};
                               }
                               return absl::OkStatus();
                             })
                  .ok());
  const auto result = MeasurePerplexity(*engine, ids, 20, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->mean_nats, nats / 19, 100 * 0x1p-24);
}

TEST(PerplexityOptions, WindowsThatCannotBeAreRefusedWithTheNumbers) {
  EngineOptions options = SmallOptions();
  options.logits_rows_max = 8;
  const auto engine = OpenOrDie(options);
  const std::vector<TokenId> ids(100, 1);
  for (const int window : {1, 101, 257}) {
    EXPECT_EQ(MeasurePerplexity(*engine, ids, window, nullptr).status().code(),
              absl::StatusCode::kInvalidArgument)
        << window;
  }
}

// From the decoded weights in F64; 8-bit activations may tip a row whose two best are close.
TEST(Logits, BestTokenIsTheReferencesInAlmostEveryRow) {
  SKIP_WITHOUT_SHARED();
  EngineOptions options = SmallOptions();
  options.model_path = SharedPath("models/moe-27m.q8_0.gguf");
  options.logits_rows_max = 64;
  const auto engine = OpenOrDie(options);
  const auto expected = Safetensors::Open(SharedPath("models/moe-27m.q8_0.expected.safetensors"));
  ASSERT_TRUE(expected.ok()) << expected.status();
  const std::vector<int64_t> wide_ids = *expected->Ints("token_ids");
  const std::vector<TokenId> ids(wide_ids.begin(), wide_ids.end());
  const std::vector<float> logits = *expected->Floats("logits");
  const auto vocab = static_cast<size_t>(engine->spec().config.vocab_count);
  ASSERT_EQ(logits.size(), ids.size() * vocab);
  const auto best = [vocab](const float* row) { return std::max_element(row, row + vocab) - row; };
  int same = 0;
  ASSERT_TRUE(engine
                  ->Evaluate(ids, false,
                             [&](const Engine::EvaluatedRows& rows) {
                               for (int row = 0; row < rows.rows; ++row) {
                                 const auto at = static_cast<size_t>(rows.first + row);
                                 same += best(rows.logits + static_cast<size_t>(row) * vocab) ==
                                         best(logits.data() + at * vocab);
                               }
                               return absl::OkStatus();
                             })
                  .ok());
  std::printf("same best token in %d of %zu rows\n", same, ids.size());
  EXPECT_GE(same, 0.97 * static_cast<double>(ids.size()));
}

}  // namespace
}  // namespace stoker
