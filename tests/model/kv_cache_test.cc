// The attention cache: what it takes, and that its rows do not meet.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/status.h"
#include "device/modelled_device.h"

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
  EXPECT_EQ(KvCache::PlanBytes(Grouped(), {.sequence_count = 2, .context = 64}, false),
            3u * 2 * 64 * (48 + 32) * 2);
  EXPECT_EQ(KvCache::PlanBytes(Latent(), {.sequence_count = 2, .context = 64, .dtype = Dtype::kF32},
                               false),
            3u * 2 * 64 * 40 * 4);
}

TEST(KvCache, LayersCanBeFewerThanTheModels) {
  for (const bool on_device : {false, true}) {
    const uint64_t one =
        KvCache::PlanBytes(Grouped(), {.context = 64, .layer_count = 1}, on_device);
    const uint64_t two =
        KvCache::PlanBytes(Grouped(), {.context = 64, .layer_count = 2}, on_device);
    EXPECT_EQ(KvCache::PlanBytes(Grouped(), {.context = 64}, on_device), two + (two - one));
  }
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

// On a device.
class KvPages : public testing::Test {
 protected:
  void SetUp() override { device_ = *MakeModelledDevice({}, &clock_); }
  KvCache Make(const ModelConfig& config, int sequences, int context) {
    absl::StatusOr<KvCache> cache = KvCache::Create(
        config, {.sequence_count = sequences, .context = context, .device = device_.get()});
    EXPECT_TRUE(cache.ok()) << MessageOf(cache.status());
    return *std::move(cache);
  }
  // The pages of a sequence's first positions, as the device finds them.
  std::vector<int32_t> Pages(KvCache& cache, int sequence, int count) {
    cache.SendTable(Stream::kCompute);
    EXPECT_TRUE(device_->Await(device_->Record(Stream::kCompute)).ok());
    const KvLayer layer = cache.Layer(0);
    const int32_t* pages = layer.table + sequence * layer.pages_per_sequence;
    return {pages, pages + count};
  }
  VirtualClock clock_;
  std::unique_ptr<ModelledDevice> device_;
};

TEST_F(KvPages, PlanIsWholePagesAndTheirTable) {
  // 100 positions are two pages; the table of four pages takes a line of 256 bytes.
  EXPECT_EQ(KvCache::PlanBytes(Grouped(), {.sequence_count = 2, .context = 100}, true),
            3u * 2 * 128 * (48 + 32) * 2 + 256);
}

TEST_F(KvPages, SequencesTakePagesAsTheyGrowAndGiveThemBack) {
  KvCache cache = Make(Grouped(), 2, 300);
  EXPECT_EQ(cache.free_page_count(), 10);
  cache.Reserve(0, 1);
  EXPECT_EQ(cache.free_page_count(), 9);
  cache.Reserve(0, 64);
  EXPECT_EQ(cache.free_page_count(), 9);
  cache.Reserve(0, 65);
  EXPECT_EQ(cache.free_page_count(), 8);
  cache.Extend(0, 65);
  cache.Truncate(0, 64);
  EXPECT_EQ(cache.free_page_count(), 9);
  cache.Truncate(0, 0);
  EXPECT_EQ(cache.free_page_count(), 10);
}

TEST_F(KvPages, EverySequenceCanReachItsContext) {
  KvCache cache = Make(Latent(), 3, 130);
  for (int sequence = 0; sequence < 3; ++sequence) cache.Reserve(sequence, 130);
  EXPECT_EQ(cache.free_page_count(), 0);
  std::set<int32_t> pages;
  for (int sequence = 0; sequence < 3; ++sequence) {
    for (const int32_t page : Pages(cache, sequence, 3)) pages.insert(page);
  }
  EXPECT_EQ(pages.size(), 9u);
  EXPECT_EQ(*pages.rbegin(), 8);
}

TEST_F(KvPages, APageGivenBackServesAnotherSequence) {
  KvCache cache = Make(Latent(), 2, 64);
  cache.Reserve(0, 10);
  cache.Extend(0, 10);
  const std::vector<int32_t> first = Pages(cache, 0, 1);
  cache.Truncate(0, 0);
  cache.Reserve(1, 10);
  EXPECT_EQ(Pages(cache, 1, 1), first);
  cache.Reserve(0, 10);
  EXPECT_NE(Pages(cache, 0, 1), first);
}

TEST_F(KvPages, LayersLieApart) {
  KvCache cache = Make(Grouped(), 2, 100);
  const KvLayer first = cache.Layer(0), second = cache.Layer(1);
  EXPECT_EQ(first.values - first.keys, 4 * 64 * 48 * 2);
  EXPECT_EQ(second.keys - first.keys, 4 * 64 * (48 + 32) * 2);
  EXPECT_EQ(first.key_stride, 48);
  EXPECT_EQ(first.value_stride, 32);
  EXPECT_EQ(first.dtype, Dtype::kF16);
}

TEST_F(KvPages, ADeviceWithoutRoomIsAnErrorThatSaysForWhat) {
  const std::unique_ptr<ModelledDevice> small =
      *MakeModelledDevice({.modelled_memory_bytes = 1000}, &clock_);
  const absl::Status status =
      KvCache::Create(Grouped(), {.context = 64, .device = small.get()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(MessageOf(status).find("attention cache"), std::string_view::npos);
}

}  // namespace
}  // namespace stoker
