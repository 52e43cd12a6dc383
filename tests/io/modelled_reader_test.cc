// The modelled drive: when reads end, in which order, and whose bytes they bring.
#include "io/modelled_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "tests/testing/memory_reader.h"

namespace stoker {
namespace {

using Wait = BlockReader::Wait;

constexpr size_t kBlock = 4096;

// A block takes 4096 ns, and is here 500 ns later.
ModelledReader::ModelOptions Model(int queue_depth = 64, int hint_depth = 4) {
  ModelledReader::ModelOptions model;
  model.reader = {.queue_depth = queue_depth, .hint_depth = hint_depth};
  model.rate = 1e9;
  model.latency_ns = 500;
  model.alignments = {kBlock};
  return model;
}

class ModelledReaderTest : public testing::Test {
 protected:
  void Open(const ModelledReader::ModelOptions& model,
            std::unique_ptr<BlockReader> inner = nullptr) {
    reader_ = std::make_unique<ModelledReader>(model, clock_, std::move(inner));
    ASSERT_TRUE(reader_->AddFile("data").ok());
  }
  void Submit(uint64_t tag, ReadPriority priority = ReadPriority::kDemand,
              std::byte* target = nullptr) {
    reader_->Submit(
        {.file = 0, .offset = tag * kBlock, .target = target, .bytes = kBlock, .tag = tag},
        priority);
  }
  // Reaps to the end: when each came by the clock, in order.
  std::vector<std::pair<uint64_t, int64_t>> Arrivals() {
    std::vector<std::pair<uint64_t, int64_t>> arrivals;
    ReadCompletion done;
    while (reader_->Reap({&done, 1}, Wait::kUntilOne) == 1) {
      arrivals.emplace_back(done.tag, clock_.NowNs());
    }
    return arrivals;
  }
  using Expected = std::vector<std::pair<uint64_t, int64_t>>;

  VirtualClock clock_;
  std::unique_ptr<ModelledReader> reader_;
};

TEST_F(ModelledReaderTest, TransfersFollowOneAnotherAndLatenciesOverlap) {
  Open(Model());
  for (uint64_t tag = 0; tag < 3; ++tag) Submit(tag);
  EXPECT_EQ(Arrivals(), (Expected{{0, 4596}, {1, 8692}, {2, 12788}}));
}

TEST_F(ModelledReaderTest, NothingIsHereBeforeItsTime) {
  Open(Model());
  Submit(0);
  ReadCompletion done;
  EXPECT_EQ(reader_->Reap({&done, 1}, Wait::kNo), 0);
  clock_.AdvanceNs(4595);
  EXPECT_EQ(reader_->Reap({&done, 1}, Wait::kNo), 0);
  clock_.AdvanceNs(1);
  EXPECT_EQ(reader_->Reap({&done, 1}, Wait::kNo), 1);
  EXPECT_EQ(done.result, static_cast<int64_t>(kBlock));
}

TEST_F(ModelledReaderTest, DriveThatNobodyLookedAtWentOn) {
  Open(Model(/*queue_depth=*/1));
  for (uint64_t tag = 0; tag < 3; ++tag) Submit(tag);
  reader_->Kick();
  clock_.AdvanceNs(1'000'000);  // computing meanwhile
  ReadCompletion done[3];
  EXPECT_EQ(reader_->Reap(absl::MakeSpan(done), Wait::kNo), 3);
}

TEST_F(ModelledReaderTest, DemandOvertakesHintsThatWait) {
  Open(Model(/*queue_depth=*/64, /*hint_depth=*/1));
  for (uint64_t tag = 0; tag < 3; ++tag) Submit(tag, ReadPriority::kHint);
  reader_->Kick();
  Submit(9);
  reader_->Kick();
  const auto arrivals = Arrivals();
  ASSERT_EQ(arrivals.size(), 4u);
  EXPECT_EQ(arrivals[0].first, 0u);
  EXPECT_EQ(arrivals[1], (std::pair<uint64_t, int64_t>{9, 8692}));
}

TEST_F(ModelledReaderTest, CancelledHintTakesNoTime) {
  Open(Model(/*queue_depth=*/64, /*hint_depth=*/1));
  Submit(0, ReadPriority::kHint);
  Submit(1, ReadPriority::kHint);
  reader_->Kick();
  EXPECT_TRUE(reader_->Cancel(1));
  Submit(2);
  ReadCompletion done[3];
  EXPECT_EQ(reader_->Reap(absl::MakeSpan(done), Wait::kNo), 1);
  EXPECT_EQ(done[0].result, -ECANCELED);
  EXPECT_EQ(Arrivals(), (Expected{{0, 4596}, {2, 8692}}));
}

TEST_F(ModelledReaderTest, InnerReaderBringsTheBytesAndTheModelTheTime) {
  MemoryReader::MemoryOptions options;
  options.alignment = kBlock;
  auto memory = std::make_unique<MemoryReader>(options);
  std::vector<std::byte> content(8 * kBlock);
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i * 7 + i / 251);
  memory->PutFile("data", content);
  Open(Model(), std::move(memory));
  auto* target = static_cast<std::byte*>(std::aligned_alloc(kBlock, 8 * kBlock));
  for (uint64_t tag = 0; tag < 8; ++tag) Submit(tag, ReadPriority::kDemand, target + tag * kBlock);
  const auto arrivals = Arrivals();
  ASSERT_EQ(arrivals.size(), 8u);
  for (uint64_t tag = 0; tag < 8; ++tag) {
    EXPECT_EQ(arrivals[tag].first, tag);
    EXPECT_EQ(arrivals[tag].second, static_cast<int64_t>((tag + 1) * 4096 + 500));
  }
  EXPECT_EQ(std::memcmp(target, content.data(), content.size()), 0);
  std::free(target);
}

TEST_F(ModelledReaderTest, ErrorsOfTheInnerReaderArePassedOn) {
  auto memory = std::make_unique<MemoryReader>();
  memory->PutFile("data", std::vector<std::byte>(100));
  Open(Model(), std::move(memory));
  alignas(512) static std::byte target[2 * kBlock];
  Submit(0, ReadPriority::kDemand, target);
  Submit(1, ReadPriority::kDemand, target + kBlock);
  ReadCompletion done[2];
  std::map<uint64_t, int64_t> results;
  while (reader_->in_flight() > 0) {
    const size_t count = reader_->Reap(absl::MakeSpan(done), Wait::kUntilOne);
    for (size_t i = 0; i < count; ++i) results[done[i].tag] = done[i].result;
  }
  EXPECT_EQ(results, (std::map<uint64_t, int64_t>{{0, 100}, {1, 0}}));
}

}  // namespace
}  // namespace stoker
