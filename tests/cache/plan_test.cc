// Budgets split over size classes.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/cache/expert_files.h"

namespace stoker {
namespace {

uint64_t ArenaBytes(const CachePlan& plan) {
  uint64_t sum = 0;
  for (const SlotClass& c : plan.classes) sum += c.slot_bytes * static_cast<uint64_t>(c.slot_count);
  return sum;
}

TEST(PlanCache, FullBudgetHoldsEveryExpert) {
  const ExpertFiles files({.layer_count = 6, .large_layers = 2});
  const auto alignments = files.Alignments(512);
  const CachePlan any = *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 2, alignments);
  const CachePlan plan =
      *PlanCache(files.catalog(), {.ram_bytes = any.full_budget_bytes}, 2, alignments);
  ASSERT_EQ(plan.classes.size(), 2u);
  for (const SlotClass& c : plan.classes) EXPECT_EQ(c.slot_count, c.expert_count);
  EXPECT_EQ(plan.arena_bytes, plan.full_budget_bytes);
  EXPECT_EQ(plan.classes[0].expert_count, 16);
  EXPECT_EQ(plan.classes[0].expert_bytes, 7000u);
  EXPECT_EQ(plan.classes[1].expert_count, 32);
  EXPECT_EQ(plan.classes[1].expert_bytes, 3500u);
  // A budget beyond that takes no more.
  EXPECT_EQ(any.arena_bytes, any.full_budget_bytes);
}

TEST(PlanCache, MinimumBudgetGivesTheMinimumSlots) {
  const ExpertFiles files({.layer_count = 6, .large_layers = 2});
  const auto alignments = files.Alignments(512);
  const uint64_t minimum =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 3, alignments)->minimum_budget_bytes;
  const CachePlan plan = *PlanCache(files.catalog(), {.ram_bytes = minimum}, 3, alignments);
  for (const SlotClass& c : plan.classes) EXPECT_EQ(c.slot_count, 3);
  EXPECT_EQ(plan.arena_bytes, minimum);
}

TEST(PlanCache, TooSmallABudgetNamesTheMinimum) {
  const ExpertFiles files({.part_bytes = {1 << 20}});
  const auto alignments = files.Alignments(1);
  const uint64_t minimum =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 3, alignments)->minimum_budget_bytes;
  const auto plan = PlanCache(files.catalog(), {.ram_bytes = minimum - 1}, 3, alignments);
  ASSERT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(plan.status().message()).find("3.00 MiB"), std::string::npos)
      << plan.status().message();
}

TEST(PlanCache, MinimumIsNeverMoreThanTheExpertsThereAre) {
  const ExpertFiles files({.layer_count = 1, .expert_count = 4});
  const auto alignments = files.Alignments(512);
  const CachePlan plan = *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 100, alignments);
  EXPECT_EQ(plan.minimum_budget_bytes, plan.full_budget_bytes);
  EXPECT_EQ(plan.classes[0].slot_count, 4);
}

TEST(PlanCache, EveryBudgetIsKeptToAndNearlySpent) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const ExpertFiles files({.layer_count = 1 + static_cast<int>(random() % 7),
                             .expert_count = 1 + static_cast<int>(random() % 20),
                             .part_bytes = {1 + random() % 200, 1 + random() % 700},
                             .large_layers = static_cast<int>(random() % 4),
                             .start_bytes = random() % 600});
    const auto alignments = files.Alignments(size_t{1} << random() % 10);
    const int pins_min = 1 + static_cast<int>(random() % 8);
    const CachePlan full =
        *PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, pins_min, alignments);
    const uint64_t spread = full.full_budget_bytes - full.minimum_budget_bytes;
    const uint64_t budget = full.minimum_budget_bytes + random() % (spread + 1);
    const CachePlan plan = *PlanCache(files.catalog(), {.ram_bytes = budget}, pins_min, alignments);
    EXPECT_EQ(plan.arena_bytes, ArenaBytes(plan));
    EXPECT_LE(plan.arena_bytes, budget);
    for (const SlotClass& c : plan.classes) {
      EXPECT_GE(c.slot_count, std::min<int64_t>(pins_min, c.expert_count));
      EXPECT_LE(c.slot_count, c.expert_count);
      // What is left would not buy another slot.
      if (c.slot_count < c.expert_count) {
        EXPECT_LT(budget - plan.arena_bytes, c.slot_bytes);
      }
    }
  }
}

TEST(PlanCache, ClassesHoldLikeFractionsOfTheirExperts) {
  const ExpertFiles files({.layer_count = 10, .expert_count = 100, .large_layers = 3});
  const auto alignments = files.Alignments(512);
  const uint64_t full =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 4, alignments)->full_budget_bytes;
  const CachePlan plan = *PlanCache(files.catalog(), {.ram_bytes = full * 3 / 10}, 4, alignments);
  ASSERT_EQ(plan.classes.size(), 2u);
  // Exactly 3 in 10, and at most one slot more from the leftover.
  EXPECT_NEAR(static_cast<double>(plan.classes[0].slot_count), 90, 1);
  EXPECT_NEAR(static_cast<double>(plan.classes[1].slot_count), 210, 2);
}

TEST(PlanCache, NearlyEqualSizesShareAClass) {
  ExpertFiles files({.layer_count = 2, .part_bytes = {64 * 100}});
  ExpertCatalog catalog = files.catalog();
  catalog.layers[1].parts[0].bytes = 64 * 95;
  catalog.layers[1].stride_bytes[0] = 64 * 95;
  catalog.layers[1].parts[0].offset = 0;
  const size_t alignments[] = {1};
  EXPECT_EQ(PlanCache(catalog, {.ram_bytes = UINT64_MAX}, 1, alignments)->classes.size(), 1u);
  catalog.layers[1].parts[0].bytes = 64 * 93;
  EXPECT_EQ(PlanCache(catalog, {.ram_bytes = UINT64_MAX}, 1, alignments)->classes.size(), 2u);
}

CacheBudget Both(uint64_t ram_bytes, uint64_t vram_bytes) {
  return {.ram_bytes = ram_bytes, .vram_bytes = vram_bytes, .has_device = true};
}

TEST(PlanCache, WithoutVramADeviceChangesNothing) {
  const ExpertFiles files({.layer_count = 6, .large_layers = 2});
  const auto alignments = files.Alignments(512);
  const uint64_t full =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 2, alignments)->full_budget_bytes;
  const CachePlan alone = *PlanCache(files.catalog(), {.ram_bytes = full / 2}, 2, alignments);
  const CachePlan plan = *PlanCache(files.catalog(), Both(full / 2, 0), 2, alignments);
  EXPECT_EQ(plan.arena_bytes, alone.arena_bytes);
  EXPECT_EQ(plan.minimum_budget_bytes, alone.minimum_budget_bytes);
  EXPECT_EQ(plan.full_budget_bytes, alone.full_budget_bytes);
  EXPECT_EQ(plan.overhead_bytes, alone.overhead_bytes);
  EXPECT_EQ(plan.vram_bytes, 0u);
  EXPECT_EQ(plan.staging_bytes, 0u);
  ASSERT_EQ(plan.vram_classes.size(), 2u);
  for (const SlotClass& c : plan.vram_classes) EXPECT_EQ(c.slot_count, 0);
}

TEST(PlanCache, BothTiersTogetherHoldEachExpertAtMostOnce) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    const ExpertFiles files({.layer_count = 1 + static_cast<int>(random() % 7),
                             .expert_count = 1 + static_cast<int>(random() % 20),
                             .part_bytes = {1 + random() % 200, 1 + random() % 700},
                             .large_layers = static_cast<int>(random() % 4)});
    const auto alignments = files.Alignments(size_t{1} << random() % 10);
    const int pins_min = 1 + static_cast<int>(random() % 8);
    const uint64_t all =
        PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 1, alignments)->full_budget_bytes;
    const uint64_t vram_bytes = random() % (all + all / 4);
    const CachePlan full =
        *PlanCache(files.catalog(), Both(UINT64_MAX, vram_bytes), pins_min, alignments);
    const uint64_t spread = full.full_budget_bytes - full.minimum_budget_bytes;
    const uint64_t ram_bytes = full.minimum_budget_bytes + random() % (spread + 1);
    const CachePlan plan =
        *PlanCache(files.catalog(), Both(ram_bytes, vram_bytes), pins_min, alignments);
    EXPECT_LE(plan.vram_bytes, vram_bytes);
    EXPECT_LE(plan.arena_bytes + plan.staging_bytes, ram_bytes);
    EXPECT_EQ(full.arena_bytes + full.staging_bytes, full.full_budget_bytes);
    EXPECT_EQ(plan.staging_bytes,
              plan.vram_bytes > 0 ? kStagingSlots * plan.classes[0].slot_bytes : 0);
    for (size_t c = 0; c < plan.classes.size(); ++c) {
      const SlotClass& ram = plan.classes[c];
      const SlotClass& vram = plan.vram_classes[c];
      const int64_t pins = std::min<int64_t>(pins_min, ram.expert_count);
      const int64_t stay = vram.slot_count - vram.transit_count;
      EXPECT_GE(ram.slot_count, pins);
      EXPECT_LE(ram.slot_count, std::max(ram.expert_count - stay, pins));
      EXPECT_EQ(full.classes[c].slot_count, std::max(ram.expert_count - stay, pins));
      EXPECT_LE(vram.slot_count, vram.expert_count);
      EXPECT_EQ(vram.transit_count > 0, vram.slot_count > 0 && vram.slot_count < vram.expert_count);
    }
  }
}

TEST(PlanCache, ClassesHoldLikeFractionsInVram) {
  const ExpertFiles files({.layer_count = 10, .expert_count = 100, .large_layers = 3});
  const auto alignments = files.Alignments(512);
  const uint64_t all =
      PlanCache(files.catalog(), {.ram_bytes = UINT64_MAX}, 4, alignments)->full_budget_bytes;
  const CachePlan plan = *PlanCache(files.catalog(), Both(UINT64_MAX, all * 3 / 10), 4, alignments);
  EXPECT_NEAR(static_cast<double>(plan.vram_classes[0].slot_count), 90, 1);
  EXPECT_NEAR(static_cast<double>(plan.vram_classes[1].slot_count), 210, 2);
  EXPECT_EQ(plan.vram_classes[0].transit_count, kTransitSlotsMax);
}

TEST(PlanCache, MinimumWithVramNamesTheStagingRing) {
  const ExpertFiles files({.part_bytes = {1 << 20}});
  const auto alignments = files.Alignments(1);
  const auto plan = PlanCache(files.catalog(), Both(3 << 20, 4 << 20), 3, alignments);
  ASSERT_EQ(plan.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(plan.status().message());
  EXPECT_NE(message.find("the minimum of 7.00 MiB"), std::string::npos) << message;
  EXPECT_NE(message.find("4.00 MiB to read experts for VRAM into"), std::string::npos) << message;
}

TEST(PlanCache, ModelWithoutExpertsNeedsNothing) {
  const CachePlan plan = *PlanCache(ExpertCatalog{}, {.ram_bytes = 0}, 8, {});
  EXPECT_TRUE(plan.classes.empty());
  EXPECT_EQ(plan.arena_bytes, 0u);
  EXPECT_EQ(plan.full_budget_bytes, 0u);
}

}  // namespace
}  // namespace stoker
