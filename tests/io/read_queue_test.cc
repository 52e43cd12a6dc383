// The order in which reads enter the device.
#include "io/read_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

namespace stoker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr BlockReader::Options kSmall = {.queue_depth = 3, .hint_depth = 2, .backlog_max = 8};

void Push(ReadQueue& queue, uint64_t tag, ReadPriority priority) {
  queue.Push({.bytes = 100, .tag = tag}, priority);
}

// Tags of the reads that enter now.
std::vector<uint64_t> EnterAll(ReadQueue& queue, std::vector<int>* slots = nullptr) {
  std::vector<uint64_t> tags;
  for (int slot = queue.Enter(); slot >= 0; slot = queue.Enter()) {
    tags.push_back(queue.request(slot).tag);
    if (slots != nullptr) slots->push_back(slot);
  }
  return tags;
}

TEST(ReadQueue, DemandsEnterInOrderUpToTheDepth) {
  ReadQueue queue(kSmall);
  for (uint64_t tag = 1; tag <= 4; ++tag) Push(queue, tag, ReadPriority::kDemand);
  EXPECT_THAT(EnterAll(queue), ElementsAre(1, 2, 3));
  EXPECT_EQ(queue.in_flight(), 4);
}

TEST(ReadQueue, DemandOvertakesHint) {
  ReadQueue queue(kSmall);
  Push(queue, 1, ReadPriority::kHint);
  Push(queue, 2, ReadPriority::kDemand);
  EXPECT_THAT(EnterAll(queue), ElementsAre(2, 1));
}

TEST(ReadQueue, HintsNeverTakeMoreThanTheirDepth) {
  ReadQueue queue(kSmall);
  for (uint64_t tag = 1; tag <= 3; ++tag) Push(queue, tag, ReadPriority::kHint);
  std::vector<int> slots;
  EXPECT_THAT(EnterAll(queue, &slots), ElementsAre(1, 2));
  queue.Finish(slots[0], 100);
  EXPECT_THAT(EnterAll(queue), ElementsAre(3));
}

TEST(ReadQueue, PromotedHintEntersAsDemandBehindOlderDemands) {
  ReadQueue queue({.queue_depth = 4, .hint_depth = 1, .backlog_max = 8});
  Push(queue, 1, ReadPriority::kHint);
  Push(queue, 2, ReadPriority::kHint);
  Push(queue, 3, ReadPriority::kDemand);
  EXPECT_TRUE(queue.Promote(2));
  EXPECT_THAT(EnterAll(queue), ElementsAre(3, 2, 1));
}

TEST(ReadQueue, CancelledHintCompletesWithoutEntering) {
  ReadQueue queue(kSmall);
  Push(queue, 1, ReadPriority::kHint);
  EXPECT_TRUE(queue.Cancel(1));
  EXPECT_THAT(EnterAll(queue), IsEmpty());
  ReadCompletion done[2];
  ASSERT_EQ(queue.TakeDone(absl::MakeSpan(done)), 1);
  EXPECT_EQ(done[0].tag, 1);
  EXPECT_EQ(done[0].result, -ECANCELED);
  EXPECT_EQ(queue.in_flight(), 0);
}

TEST(ReadQueue, CancelAndPromoteAreTooLateInTheDeviceAndUnknownForDemands) {
  ReadQueue queue(kSmall);
  Push(queue, 1, ReadPriority::kHint);
  EnterAll(queue);
  Push(queue, 2, ReadPriority::kDemand);
  EXPECT_FALSE(queue.Cancel(1));
  EXPECT_FALSE(queue.Promote(1));
  EXPECT_FALSE(queue.Cancel(2));
  EXPECT_FALSE(queue.Cancel(77));
}

TEST(ReadQueue, RetreatingReadIsTheNextToEnter) {
  ReadQueue queue(kSmall);
  Push(queue, 1, ReadPriority::kDemand);
  Push(queue, 2, ReadPriority::kDemand);
  queue.Retreat(queue.Enter());
  EXPECT_EQ(queue.in_device(), 0);
  EXPECT_THAT(EnterAll(queue), ElementsAre(1, 2));
}

TEST(ReadQueue, SlotsAreReusedForEver) {
  ReadQueue queue(kSmall);
  ReadCompletion done[8];
  for (uint64_t tag = 0; tag < 100; ++tag) {
    Push(queue, tag, tag % 3 == 0 ? ReadPriority::kHint : ReadPriority::kDemand);
    const int slot = queue.Enter();
    ASSERT_GE(slot, 0);
    queue.Finish(slot, static_cast<int64_t>(tag));
    if (tag % 4 == 3) {
      ASSERT_EQ(queue.TakeDone(absl::MakeSpan(done)), 4);
    }
  }
  EXPECT_EQ(queue.in_flight(), 0);
}

TEST(ReadQueueDeathTest, MoreThanTheBacklogIsABug) {
  ReadQueue queue({.queue_depth = 1, .hint_depth = 1, .backlog_max = 1});
  Push(queue, 1, ReadPriority::kDemand);
  EXPECT_DEATH(Push(queue, 2, ReadPriority::kDemand), "check failed");
}

}  // namespace
}  // namespace stoker
