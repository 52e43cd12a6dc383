// Every family against logits computed by an independent engine in double precision.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "io/safetensors.h"
#include "model/family.h"
#include "tests/model/loaded_model.h"
#include "tests/testing/shared_data.h"

namespace stoker {
namespace {

struct Oracle {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  std::vector<float> hidden;
  std::vector<int32_t> prompt;
  std::vector<int32_t> greedy;
};

Oracle ReadOracle(const std::string& directory) {
  Oracle oracle;
  const absl::StatusOr<Safetensors> file = Safetensors::Open(directory + "/expected.safetensors");
  EXPECT_TRUE(file.ok()) << MessageOf(file.status());
  const std::vector<int64_t> ids = *file->Ints("token_ids");
  oracle.tokens.assign(ids.begin(), ids.end());
  oracle.logits = *file->Floats("logits");
  oracle.hidden = *file->Floats("hidden");
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(directory + "/expected.json"));
  oracle.prompt = json["prompt_ids"].get<std::vector<int32_t>>();
  oracle.greedy = json["greedy_ids"].get<std::vector<int32_t>>();
  return oracle;
}

// The bound: 2e-4 absolute plus 1e-3 of the expected value. Tells the worst cell.
void ExpectNear(const std::vector<float>& got, const std::vector<float>& expected,
                const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  size_t worst = 0;
  double worst_error = 0;
  size_t outside = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(double{got[i]} - expected[i]);
    if (!(error <= 2e-4 + 1e-3 * std::abs(expected[i]))) ++outside;
    if (!(error <= worst_error)) {
      worst = i;
      worst_error = error;
    }
  }
  EXPECT_EQ(outside, 0u) << what;
  std::cout << what << ": worst error " << worst_error << " at " << worst << ", got " << got[worst]
            << ", expected " << expected[worst] << "\n";
}

std::vector<int32_t> Greedy(LoadedModel& model, const std::vector<int32_t>& prompt, size_t count) {
  const int vocab = model.config().vocab_count;
  std::vector<int32_t> tokens;
  RunResult result = model.Run(prompt, 512);
  while (tokens.size() < count) {
    tokens.push_back(BestToken(result.logits.data() + result.logits.size() - vocab, vocab));
    if (tokens.size() < count) result = model.Run({tokens.back()}, 1);
  }
  return tokens;
}

class FamilyOracle : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_SHARED();
    directory_ = SharedPath("oracles/families/" + std::get<0>(GetParam()));
    oracle_ = ReadOracle(directory_);
    absl::StatusOr<std::unique_ptr<LoadedModel>> model = LoadedModel::Open(
        directory_ + "/model.bf16.gguf", {.ops = std::get<1>(GetParam()), .sequence_count = 3});
    ASSERT_TRUE(model.ok()) << MessageOf(model.status());
    model_ = *std::move(model);
  }
  std::string name() const { return std::get<0>(GetParam()) + "/" + std::get<1>(GetParam()); }

  std::string directory_;
  Oracle oracle_;
  std::unique_ptr<LoadedModel> model_;
};

TEST_P(FamilyOracle, LogitsAreTheExpectedOnes) {
  const RunResult result = model_->Run(oracle_.tokens, 512);
  ExpectNear(result.logits, oracle_.logits, name() + " logits");
}

TEST_P(FamilyOracle, HiddenStatesAreTheExpectedOnes) {
  const RunResult result = model_->Run(oracle_.tokens, 512);
  ExpectNear(result.hidden, oracle_.hidden, name() + " hidden");
}

TEST_P(FamilyOracle, GreedyContinuationIsTheExpectedOne) {
  EXPECT_EQ(Greedy(*model_, oracle_.prompt, oracle_.greedy.size()), oracle_.greedy);
}

TEST_P(FamilyOracle, ChunksOfAPromptDoNotShow) {
  const RunResult whole = model_->Run(oracle_.tokens, 512);
  for (const int chunk : {1, 3, 7, 33}) {
    model_->Reset();
    EXPECT_EQ(model_->Run(oracle_.tokens, chunk).logits, whole.logits) << "chunk " << chunk;
  }
}

TEST_P(FamilyOracle, NeighboursInTheBatchDoNotShow) {
  const RunResult alone = model_->Run(oracle_.tokens, 512);
  model_->Reset();
  model_->Run({1, 2, 3, 4, 5}, 512, 0);
  std::vector<StepRow> rows = {{9, 0, 5, true}, {8, 0, 6, true}};
  for (size_t i = 0; i < oracle_.tokens.size(); ++i) {
    rows.push_back({oracle_.tokens[i], 1, static_cast<int32_t>(i), true});
  }
  rows.push_back({17, 2, 0, true});
  const RunResult together = model_->Step(rows);
  const auto vocab = static_cast<size_t>(model_->config().vocab_count);
  const std::vector<float> ours(together.logits.begin() + 2 * vocab, together.logits.end() - vocab);
  EXPECT_EQ(ours, alone.logits);
}

INSTANTIATE_TEST_SUITE_P(
    All, FamilyOracle,
    testing::Combine(testing::Values("llama", "mixtral", "qwen2", "qwen3", "qwen2-moe", "qwen3-moe",
                                     "olmoe", "deepseek-v2-lite", "deepseek-v3", "kimi-k2"),
                     testing::Values("reference", "auto")),
    [](const auto& row) {
      std::string name = std::get<0>(row.param) + "_" + std::get<1>(row.param);
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(Families, EveryRowIsFoundByItsArchitecture) {
  std::vector<std::string_view> archs;
  for (const Family& family : Families()) archs.push_back(family.arch);
  EXPECT_THAT(archs, testing::ElementsAre("deepseek2", "llama", "olmoe", "qwen2", "qwen2moe",
                                          "qwen3", "qwen3moe"));
  for (const Family& family : Families()) {
    const absl::StatusOr<const Family*> found = FindFamily(family.arch);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, &family);
  }
}

TEST(Families, AnUnknownArchitectureIsRefusedWithTheKnownOnes) {
  const absl::StatusOr<const Family*> found = FindFamily("mamba");
  EXPECT_EQ(found.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(MessageOf(found.status())),
              testing::AllOf(testing::HasSubstr("mamba"), testing::HasSubstr("deepseek2"),
                             testing::HasSubstr("qwen3moe")));
}

}  // namespace
}  // namespace stoker
