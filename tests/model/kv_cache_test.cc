// The attention cache: what it takes, and that its rows do not meet.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <set>

namespace stoker {
namespace {

ModelConfig Grouped() {
  ModelConfig config;
  config.layer_count = 3;
  config.kv_head_count = 2;
  config.key_dim = 24;
  config.value_dim = 16;
  return config;
}

ModelConfig Latent() {
  ModelConfig config = Grouped();
  config.attention = AttentionKind::kLatent;
  config.kv_rank = 32;
  config.rope.dims = 8;
  return config;
}

TEST(KvCache, PlanIsTheBytesOfAllRows) {
  EXPECT_EQ(KvCache::PlanBytes(Grouped(), {.sequence_count = 2, .context = 64}),
            3u * 2 * 64 * (48 + 32) * 2);
  EXPECT_EQ(
      KvCache::PlanBytes(Latent(), {.sequence_count = 2, .context = 64, .dtype = Dtype::kF32}),
      3u * 2 * 64 * 40 * 4);
}

TEST(KvCache, RegionsOfLayersAndSequencesAreDistinct) {
  const absl::StatusOr<KvCache> cache =
      KvCache::Create(Grouped(), {.sequence_count = 2, .context = 5, .dtype = Dtype::kF32});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->key_stride(), 48);
  EXPECT_EQ(cache->value_stride(), 32);
  std::set<std::byte*> regions;
  for (int layer = 0; layer < 3; ++layer) {
    for (int sequence = 0; sequence < 2; ++sequence) {
      regions.insert(cache->Keys(layer, sequence));
      regions.insert(cache->Values(layer, sequence));
    }
  }
  EXPECT_EQ(regions.size(), 12u);
  const std::byte* former = nullptr;
  for (const std::byte* region : regions) {
    if (former != nullptr) {
      EXPECT_GE(region - former, 5 * 32 * 4);
    }
    EXPECT_EQ(reinterpret_cast<uintptr_t>(region) % 64, 0u);
    former = region;
  }
}

TEST(KvCache, LatentRowsServeAsKeysAndValues) {
  const absl::StatusOr<KvCache> cache = KvCache::Create(Latent(), {.context = 8});
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->Keys(1, 0), cache->Values(1, 0));
  EXPECT_EQ(cache->key_stride(), 40);
  EXPECT_EQ(cache->value_stride(), 40);
}

TEST(KvCache, TruncatingForgetsTheEnd) {
  absl::StatusOr<KvCache> cache = KvCache::Create(Latent(), {.context = 8});
  ASSERT_TRUE(cache.ok());
  cache->Extend(0, 6);
  cache->Truncate(0, 2);
  EXPECT_EQ(cache->length(0), 2);
}

}  // namespace
}  // namespace stoker
