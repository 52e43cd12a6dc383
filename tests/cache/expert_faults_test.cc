// Files and drives that go wrong: what recovers does so unseen, what does not fails one request.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/cache/memory_store.h"

namespace stoker {
namespace {

using testing::HasSubstr;

TEST(ExpertCache, ShortReadResumes) {
  MemoryStore store({.files = {.part_bytes = {9000, 5000}}, .faults = {.short_read = 1}});
  ASSERT_TRUE(store.Ask(1, {0, 3, 4}).ok());
  EXPECT_GT(store.reader.injected(), 0u);
  EXPECT_GE(store.cache->counts().retries, 6u);  // every part's first read was short
}

TEST(ExpertCache, TransientErrorIsRetried) {
  for (const int error : {EIO, EINTR, EAGAIN}) {
    MemoryStore store({});
    const ByteRange range = store.files.Range({2, 5}, 1);
    store.reader.FailRange(0, range.offset, range.offset + 1, error,
                           ExpertCache::kReadAttemptsMax - 1);
    ASSERT_TRUE(store.Ask(2, {5}).ok());
    EXPECT_EQ(store.cache->counts().retries, 3u);
  }
}

TEST(ExpertCache, RetriesHaveABound) {
  MemoryStore store({});
  const ByteRange range = store.files.Range({2, 5}, 1);
  store.reader.FailRange(0, range.offset, range.offset + 1, EIO, ExpertCache::kReadAttemptsMax);
  EXPECT_EQ(store.Ask(2, {5}).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ExpertCache, PermanentErrorFailsTheRequestNotTheCache) {
  MemoryStore store({.files = {.part_bytes = {4096, 2048}}, .slot_count = 6, .is_manual = true});
  ASSERT_TRUE(store.Ask(2, {0, 1}).ok());
  const ByteRange range = store.files.Range({2, 5}, 0);
  store.reader.FailRange(0, range.offset, range.offset + 1, EACCES);
  const absl::Status status = store.Ask(2, {4, 0, 5, 6, 1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("layer 2 expert 5"));
  EXPECT_THAT(Message(status), HasSubstr("model-0.gguf"));
  EXPECT_THAT(Message(status), HasSubstr("Permission denied"));
  EXPECT_THAT(Message(status), HasSubstr(std::to_string(range.offset)));
  // The request is over, and nothing is under way.
  EXPECT_EQ(store.cache->outstanding(), 0);
  EXPECT_EQ(store.reader.in_flight(), 0u);
  ExpertRef ref;
  EXPECT_EQ(*store.cache->Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne), 0);
  // Residents are where they were, what arrived meanwhile is too, and the bad one stays bad.
  for (const int32_t expert : {0, 1, 4, 6}) EXPECT_TRUE(store.Hits(2, expert)) << expert;
  EXPECT_FALSE(store.Ask(2, {5}).ok());
  // Nothing leaked: all slots can be held at once.
  EXPECT_EQ(store.Hold(1, {0, 1, 2, 3, 4, 5}).size(), 6u);
  EXPECT_EQ(store.cache->counts().resident, 6);
}

TEST(ExpertCache, FailedRequestForgetsItsWaitingMembers) {
  MemoryStore store({.slot_count = 2});
  const ByteRange range = store.files.Range({0, 0}, 0);
  store.reader.FailRange(0, range.offset, range.offset + 1, EBADF, 1);
  EXPECT_FALSE(store.Ask(0, {0, 1, 2, 3, 4}).ok());
  EXPECT_EQ(store.cache->outstanding(), 0);
  EXPECT_TRUE(store.Ask(0, {0, 1, 2, 3, 4}).ok());
}

TEST(ExpertCache, HeldRefsSurviveAFailedRequest) {
  MemoryStore store({.slot_count = 3});
  const std::vector<ExpertRef> held = store.Hold(1, {4});
  const ByteRange range = store.files.Range({0, 2}, 2);
  store.reader.FailRange(0, range.offset, range.offset + 1, ENXIO);
  EXPECT_FALSE(store.Ask(0, {1, 2, 3}).ok());
  EXPECT_TRUE(store.files.Matches(held[0]));
}

TEST(ExpertCache, ChangedFileIsDataLoss) {
  MemoryStore store({.files = {.is_split = true}});
  ASSERT_TRUE(store.Ask(1, {0}).ok());
  store.memory.PutFile(ExpertFiles::Name(1), store.files.bytes(1));  // same bytes, another file
  const absl::Status status = store.Ask(1, {1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("model-1.gguf"));
  EXPECT_THAT(Message(status), HasSubstr("layer 1 expert 1"));
  EXPECT_THAT(Message(status), HasSubstr("changed"));
  EXPECT_TRUE(store.Ask(0, {0}).ok());  // the other file is as it was
  EXPECT_TRUE(store.Hits(1, 0));        // and what was read before is still good
}

TEST(ExpertCache, ShrunkFileIsDataLoss) {
  MemoryStore store({});
  std::vector<std::byte> half = store.files.bytes(0);
  half.resize(half.size() / 2);
  store.memory.PutFile(ExpertFiles::Name(0), half);
  const absl::Status status = store.Ask(3, {7}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("changed"));
}

TEST(ExpertCache, RottenBytesAreDataLoss) {
  MemoryStore store({.slot_count = 1});
  ASSERT_TRUE(store.Ask(0, {3}).ok());
  ASSERT_TRUE(store.Ask(0, {4}).ok());
  const ByteRange range = store.files.Range({0, 3}, 2);
  store.memory.FileBytes(ExpertFiles::Name(0))[range.offset + 17] ^= std::byte{4};
  const absl::Status status = store.Ask(0, {3}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("layer 0 expert 3"));
  // Made good again it is as it was at the first read.
  store.memory.FileBytes(ExpertFiles::Name(0))[range.offset + 17] ^= std::byte{4};
  EXPECT_TRUE(store.Ask(0, {3}).ok());
}

TEST(ExpertCache, RotBetweenExpertsIsNobodysLoss) {
  MemoryStore store({.files = {.stride_padding = 100}, .slot_count = 1});
  ASSERT_TRUE(store.Ask(0, {3}).ok());
  const ByteRange range = store.files.Range({0, 3}, 1);
  store.memory.FileBytes(ExpertFiles::Name(0))[range.offset + range.bytes] ^= std::byte{4};
  ASSERT_TRUE(store.Ask(0, {4}).ok());
  EXPECT_TRUE(store.Ask(0, {3}).ok());
}

TEST(ExpertCache, FileTooShortForItsExpertsIsRefusedAtOnce) {
  const ExpertFiles files({.is_split = true});
  MemoryReader reader;
  files.AddTo(reader);
  std::vector<std::byte> short_by_one = files.bytes(1);
  short_by_one.pop_back();
  reader.PutFile(ExpertFiles::Name(1), short_by_one);
  const VirtualClock clock;
  CacheOptions options = RamOnly();
  options.file_names = files.names();
  const absl::Status status = ExpertCache::Create(files.catalog(), PlanWithSlots(files, 8, 512),
                                                  options, reader, clock, nullptr)
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("model-1.gguf"));
}

TEST(ExpertCache, LastExpertNeedsNoWholeBlockAtTheEndOfTheFile) {
  MemoryStore store({.files = {.part_bytes = {1001}}, .alignment = 4096});
  ASSERT_NE(store.files.bytes(0).size() % 4096, 0u);
  EXPECT_TRUE(store.Ask(3, {7}).ok());
  EXPECT_EQ(store.cache->counts().retries, 0u);
}

}  // namespace
}  // namespace stoker
