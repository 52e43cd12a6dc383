// The expert store over a file system, with both of the readers that users run.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "cache/resident_experts.h"
#include "tests/cache/expert_files.h"

namespace stoker {
namespace {

class RealFiles : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto choice = MakeBlockReader(GetParam(), {.queue_depth = 8});
    if (!choice.ok()) GTEST_SKIP() << choice.status();
    reader_ = std::move(choice->reader);
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("stoker_real_files_" + GetParam() + "_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    for (int file = 0; file < files_.file_count(); ++file) {
      Write(file, files_.bytes(file));
      const auto added = reader_->AddFile(Path(file));
      ASSERT_TRUE(added.ok()) << added.status();
      ASSERT_EQ(*added, file);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(int file) const { return folder_ / ExpertFiles::Name(file); }
  void Write(int file, const std::vector<std::byte>& bytes) const {
    std::ofstream(Path(file), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::unique_ptr<ExpertCache> MakeCache(int slot_count) {
    const std::vector<size_t> alignments = FileAlignments(files_.catalog(), *reader_);
    CachePlan plan = *PlanCache(files_.catalog(), {.ram_bytes = UINT64_MAX}, 1, alignments);
    plan.arena_bytes = 0;
    for (SlotClass& c : plan.classes) {
      c.slot_count = slot_count;
      plan.arena_bytes += c.slot_bytes * static_cast<uint64_t>(slot_count);
    }
    auto cache =
        ExpertCache::Create(files_.catalog(), plan, RamOnly("lru", -1), *reader_, clock_, nullptr);
    EXPECT_TRUE(cache.ok()) << cache.status();
    return *std::move(cache);
  }
  absl::Status AskForAll(ExpertProvider& experts, int layer) {
    std::vector<int32_t> ids(12);
    for (int i = 0; i < 12; ++i) ids[i] = 11 - i;
    EXPECT_TRUE(experts.Request(layer, ids).ok());
    int handed_over = 0;
    while (true) {
      ExpertRef ref;
      const auto count = experts.Collect({&ref, 1}, ExpertProvider::Wait::kUntilOne);
      if (!count.ok()) return count.status();
      if (*count == 0) break;
      EXPECT_TRUE(files_.Matches(ref)) << ref.id().layer << ", " << ref.id().expert;
      ++handed_over;
    }
    EXPECT_EQ(handed_over, 12);
    return absl::OkStatus();
  }

  const RealClock clock_;
  const ExpertFiles files_{{.expert_count = 12,
                            .part_bytes = {70001, 4096, 33000},
                            .start_bytes = 12345,
                            .is_split = true}};
  std::unique_ptr<BlockReader> reader_;
  std::filesystem::path folder_;
};

TEST_P(RealFiles, EveryByteIsRightThroughFewSlotsAndMany) {
  for (const int slot_count : {1, 5, 48}) {
    const auto cache = MakeCache(slot_count);
    for (int round = 0; round < 2; ++round) {
      for (int layer = 0; layer < 4; ++layer) EXPECT_TRUE(AskForAll(*cache, layer).ok());
    }
    EXPECT_EQ(cache->counts().resident, slot_count);
  }
}

TEST_P(RealFiles, ResidentExpertsAreRightToo) {
  const auto experts = ResidentExperts::Create(files_.catalog(), files_.names(), *reader_, clock_);
  ASSERT_TRUE(experts.ok()) << experts.status();
  for (int layer = 0; layer < 4; ++layer) EXPECT_TRUE(AskForAll(**experts, layer).ok());
}

TEST_P(RealFiles, TruncatedFileIsDataLossNotGarbage) {
  const auto cache = MakeCache(5);
  ASSERT_TRUE(AskForAll(*cache, 3).ok());
  std::filesystem::resize_file(Path(1), 20000);
  EXPECT_EQ(AskForAll(*cache, 3).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(AskForAll(*cache, 2).ok());  // of the other file
}

INSTANTIATE_TEST_SUITE_P(Readers, RealFiles, testing::Values("pread", "uring"),
                         [](const auto& kind) { return kind.param; });

}  // namespace
}  // namespace stoker
