// Claims of scheduler.h.
#include "runtime/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace stoker {
namespace {

TEST(Scheduler, AStepTakesAtMostAChunkOfPromptRows) {
  Scheduler scheduler(/*chunk=*/7, /*slot_count=*/2);
  scheduler.Add(1, 10);
  scheduler.Add(2, 5);
  absl::Span<const StepPart> plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].rows, 7);
  EXPECT_FALSE(plan[0].wants_token);
  scheduler.Done();
  plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].first, 7);
  EXPECT_EQ(plan[0].rows, 3);
  EXPECT_TRUE(plan[0].wants_token);
  EXPECT_EQ(plan[1].rows, 4);
  EXPECT_FALSE(plan[1].wants_token);
}

TEST(Scheduler, ALongPromptDoesNotHoldUpDecoding) {
  Scheduler scheduler(/*chunk=*/4, /*slot_count=*/2);
  scheduler.Add(1, 1);
  scheduler.Plan();
  scheduler.Done();
  scheduler.Grow(1, 1);
  scheduler.Add(2, 100);
  for (int step = 0; step < 10; ++step) {
    const absl::Span<const StepPart> plan = scheduler.Plan();
    ASSERT_EQ(plan.size(), 2u);
    EXPECT_EQ(plan[0].sequence, 1);
    EXPECT_EQ(plan[0].rows, 1);
    EXPECT_FALSE(plan[0].is_prompt);
    EXPECT_TRUE(plan[0].wants_token);
    EXPECT_EQ(plan[1].rows, 4);
    scheduler.Done();
    scheduler.Grow(1, 1);
  }
}

TEST(Scheduler, ASequenceWaitsUntilASlotIsFree) {
  Scheduler scheduler(/*chunk=*/8, /*slot_count=*/1);
  scheduler.Add(1, 2);
  scheduler.Add(2, 2);
  ASSERT_EQ(scheduler.Plan().size(), 1u);
  EXPECT_EQ(scheduler.waiting_count(), 1);
  scheduler.Done();
  scheduler.Remove(1);
  const absl::Span<const StepPart> plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].sequence, 2);
  EXPECT_EQ(plan[0].slot, 0);
  EXPECT_EQ(plan[0].first, 0);
  EXPECT_EQ(scheduler.waiting_count(), 0);
}

TEST(Scheduler, UnknownIdsAreIgnoredByRemove) {
  Scheduler scheduler(1, 1);
  scheduler.Remove(5);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_TRUE(scheduler.Plan().empty());
}

// Random arrivals and ends: bounds hold, slots are never shared, and every position of a sequence
// goes through exactly one step, in order.
TEST(Scheduler, EveryPositionStepsOnceInOrder) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const int chunk = 1 + static_cast<int>(random() % 9),
              slots = 1 + static_cast<int>(random() % 4);
    Scheduler scheduler(chunk, slots);
    std::map<SequenceId, int> next, length;  // position to come; tokens known
    SequenceId last_id = 0;
    for (int step = 0; step < 300; ++step) {
      if (random() % 4 == 0) {
        ++last_id;
        length[last_id] = 1 + static_cast<int>(random() % 20);
        next[last_id] = 0;
        scheduler.Add(last_id, length[last_id]);
      }
      const std::vector<StepPart> plan = [&] {
        const absl::Span<const StepPart> span = scheduler.Plan();
        return std::vector<StepPart>(span.begin(), span.end());
      }();
      scheduler.Done();
      int prompt_rows = 0, rows = 0;
      std::set<int> used;
      for (const StepPart& part : plan) {
        EXPECT_TRUE(used.insert(part.slot).second);
        EXPECT_EQ(part.first, next[part.sequence]);
        next[part.sequence] += part.rows;
        rows += part.rows;
        if (part.is_prompt) prompt_rows += part.rows;
        EXPECT_EQ(part.wants_token, next[part.sequence] == length[part.sequence]);
        if (!part.wants_token) continue;
        if (random() % 5 == 0) {
          scheduler.Remove(part.sequence);
        } else {
          scheduler.Grow(part.sequence, 1);
          ++length[part.sequence];
        }
      }
      EXPECT_LE(prompt_rows, chunk);
      EXPECT_LE(rows, chunk + slots - 1);
      EXPECT_LE(plan.size(), static_cast<size_t>(slots));
    }
  }
}

TEST(Scheduler, DraftsRideBehindTheNewestTokenAndCountOnceTheyAreRight) {
  Scheduler scheduler(/*chunk=*/8, /*slot_count=*/2);
  scheduler.Add(1, 3);
  EXPECT_TRUE(scheduler.Decoding().empty());
  scheduler.Plan();
  scheduler.Done();
  scheduler.Grow(1, 1);
  scheduler.Add(2, 20);
  ASSERT_EQ(scheduler.Decoding().size(), 1u);
  scheduler.Check(1, 4);
  absl::Span<const StepPart> plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].first, 3);
  EXPECT_EQ(plan[0].rows, 5);
  EXPECT_EQ(plan[0].drafts, 4);
  EXPECT_TRUE(plan[0].wants_token);
  EXPECT_EQ(plan[1].rows, 8);  // drafts take nothing from a prompt's chunk
  EXPECT_EQ(plan[1].drafts, 0);
  scheduler.Done();
  scheduler.Grow(1, 3);  // two drafts were right
  plan = scheduler.Plan();
  EXPECT_EQ(plan[0].first, 6);
  EXPECT_EQ(plan[0].rows, 1);
  EXPECT_EQ(plan[0].drafts, 0);
}

}  // namespace
}  // namespace stoker
