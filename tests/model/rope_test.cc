// Rope scaling against numbers worked out from the published configurations.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/status.h"
#include "model/family.h"
#include "tests/testing/gguf_writer.h"

namespace stoker {
namespace {

absl::StatusOr<RopeConfig> Read(const GgufWriter& writer, int dims) {
  const std::vector<uint8_t> bytes = writer.Build();
  const absl::StatusOr<GgufModel> gguf = GgufModel::Parse(bytes, "test.gguf");
  EXPECT_TRUE(gguf.ok()) << MessageOf(gguf.status());
  return ReadRope(*gguf, "llama", dims);
}

TEST(Rope, PlainFrequenciesArePowersOfTheBase) {
  GgufWriter writer;
  writer.Set("llama.rope.freq_base", 500000.0f);
  const absl::StatusOr<RopeConfig> rope = Read(writer, 128);
  ASSERT_TRUE(rope.ok());
  ASSERT_EQ(rope->frequencies.size(), 64u);
  EXPECT_EQ(rope->frequencies[0], 1.0f);
  EXPECT_EQ(rope->frequencies[32], static_cast<float>(std::pow(500000.0, -0.5)));
  EXPECT_EQ(rope->magnitude, 1.0f);
}

TEST(Rope, LinearScalingDividesEveryFrequency) {
  for (const bool is_old : {false, true}) {
    GgufWriter writer;
    if (is_old) {
      writer.Set("llama.rope.scale_linear", 4.0f);
    } else {
      writer.Set("llama.rope.scaling.type", "linear").Set("llama.rope.scaling.factor", 4.0f);
    }
    const absl::StatusOr<RopeConfig> rope = Read(writer, 16);
    ASSERT_TRUE(rope.ok());
    EXPECT_EQ(rope->frequencies[0], 0.25f);
  }
}

// Kimi K2: base 50000, 64 dims, 4096 positions times 32, both betas 1. The correction index is
// 64 ln(4096 / 2 pi) / (2 ln 50000) = 19.16, so pairs up to 19 keep their frequency and pairs from
// 20 on are stretched whole.
TEST(Rope, YarnOfKimiBlendsBetweenPairs19And20) {
  GgufWriter writer;
  writer.Set("llama.rope.freq_base", 50000.0f)
      .Set("llama.context_length", uint32_t{131072})
      .Set("llama.rope.scaling.type", "yarn")
      .Set("llama.rope.scaling.factor", 32.0f)
      .Set("llama.rope.scaling.original_context_length", uint32_t{4096})
      .Set("llama.rope.scaling.yarn_beta_fast", 1.0f)
      .Set("llama.rope.scaling.yarn_beta_slow", 1.0f);
  const absl::StatusOr<RopeConfig> rope = Read(writer, 64);
  ASSERT_TRUE(rope.ok()) << MessageOf(rope.status());
  const auto plain = [](int i) { return std::pow(50000.0, -2.0 * i / 64); };
  EXPECT_EQ(rope->frequencies[19], static_cast<float>(plain(19)));
  EXPECT_EQ(rope->frequencies[20], static_cast<float>(plain(20) / 32));
  EXPECT_NEAR(rope->magnitude, 0.1 * std::log(32.0) + 1, 1e-6);
}

// DeepSeek-V3: factor 40, betas 32 and 1: indices floor(10.47) = 10 and ceil(22.51) = 23.
TEST(Rope, YarnOfDeepSeekBlendsBetweenPairs10And23) {
  GgufWriter writer;
  writer.Set("llama.context_length", uint32_t{163840})
      .Set("llama.rope.scaling.type", "yarn")
      .Set("llama.rope.scaling.factor", 40.0f)
      .Set("llama.rope.scaling.original_context_length", uint32_t{4096});
  const absl::StatusOr<RopeConfig> rope = Read(writer, 64);
  ASSERT_TRUE(rope.ok()) << MessageOf(rope.status());
  const auto plain = [](int i) { return std::pow(10000.0, -2.0 * i / 64); };
  EXPECT_EQ(rope->frequencies[10], static_cast<float>(plain(10)));
  EXPECT_LT(rope->frequencies[11], static_cast<float>(plain(11)));
  EXPECT_GT(rope->frequencies[22], static_cast<float>(plain(22) / 40));
  EXPECT_EQ(rope->frequencies[23], static_cast<float>(plain(23) / 40));
}

TEST(Rope, TableHoldsCosinesAndSinesOfEveryPosition) {
  RopeConfig rope;
  rope.dims = 4;
  rope.frequencies = {1.0f, 0.5f};
  rope.magnitude = 2;
  const float divisors[] = {1.0f, 4.0f};
  float cosines[6], sines[6];
  FillRopeTable(rope, divisors, 0, 2, {cosines, sines});
  FillRopeTable(rope, divisors, 2, 3, {cosines, sines});
  EXPECT_EQ(cosines[0], 2.0f);
  EXPECT_EQ(sines[1], 0.0f);
  EXPECT_EQ(cosines[4], static_cast<float>(2 * std::cos(2.0)));
  EXPECT_EQ(sines[5], static_cast<float>(2 * std::sin(2 * 0.125)));
}

}  // namespace
}  // namespace stoker
