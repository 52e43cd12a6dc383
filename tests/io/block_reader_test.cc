// One set of questions for every block reader, and what only one of them must answer.
#include "io/block_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <utility>

#include "base/status.h"
#include "io/block_reader_choice.h"
#include "io/modelled_reader.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/memory_reader.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Wait = BlockReader::Wait;

constexpr size_t kPage = 4096;
constexpr size_t kFileBytes = 300'001;  // no multiple of any alignment

std::vector<uint8_t> Noise(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> noise(bytes);
  for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
  return noise;
}

// Page-aligned memory for targets.
class Memory {
 public:
  explicit Memory(size_t bytes)
      : bytes_((bytes + kPage - 1) / kPage * kPage),
        data_(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes_))) {
    std::memset(data_, 0xee, bytes_);
  }
  ~Memory() { std::free(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* data() { return data_; }
  absl::Span<std::byte> span() { return {data_, bytes_}; }

 private:
  size_t bytes_;
  std::byte* data_;
};

// Reaps until nothing is under way; results by tag.
std::map<uint64_t, int64_t> ReapAll(BlockReader& reader) {
  std::map<uint64_t, int64_t> results;
  std::array<ReadCompletion, 5> done;
  while (reader.in_flight() > 0) {
    const size_t count = reader.Reap(absl::MakeSpan(done), Wait::kUntilOne);
    EXPECT_GT(count, 0);
    for (size_t i = 0; i < count; ++i) results[done[i].tag] = done[i].result;
  }
  return results;
}

struct Kind {
  std::string_view name;
  bool direct = true;
};

class BlockReaderContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    path_ = directory_.File("data");
    content_ = Noise(kFileBytes, 1);
    WriteBytes(path_, content_);
    reader_ = Make(BlockReader::Options{.direct = GetParam().direct});
    if (reader_ == nullptr) GTEST_SKIP() << "io_uring is refused on this machine";
    ASSERT_TRUE(reader_->AddFile(path_).ok());
  }

  std::unique_ptr<BlockReader> Make(const BlockReader::Options& options) const {
    if (GetParam().name == "memory") {
      auto memory = std::make_unique<MemoryReader>(
          MemoryReader::MemoryOptions{.reader = options, .alignment = 512, .seed = 7});
      const auto* bytes = reinterpret_cast<const std::byte*>(content_.data());
      memory->PutFile(path_, {bytes, bytes + content_.size()});
      return memory;
    }
    if (GetParam().name == "modelled") {
      ModelledReader::ModelOptions model;
      model.reader = options;
      model.rate = 1e9;
      model.latency_ns = 1000;
      return std::make_unique<ModelledReader>(model, clock_, MakePreadReader(options));
    }
    absl::StatusOr<BlockReaderChoice> choice = MakeBlockReader(GetParam().name, options);
    return choice.ok() ? std::move(choice->reader) : nullptr;
  }

  TemporaryDirectory directory_{"."};
  std::string path_;
  std::vector<uint8_t> content_;
  mutable RealClock clock_;
  std::unique_ptr<BlockReader> reader_;
};

TEST_P(BlockReaderContract, OddRangesComeBackByteForByte) {
  const size_t alignment = reader_->alignment(0);
  std::mt19937_64 random(3);
  struct Case {
    uint64_t offset;
    size_t bytes;
    AlignedRange range;
    size_t at;
  };
  std::vector<Case> cases;
  size_t total = 0;
  for (int i = 0; i < 200; ++i) {
    const uint64_t offset = random() % (kFileBytes - 1);
    const size_t bytes = 1 + random() % std::min<size_t>(kFileBytes - offset, 20'000);
    const AlignedRange range = CoverAligned(offset, bytes, alignment);
    cases.push_back({offset, bytes, range, total});
    total += (range.bytes + kPage - 1) / kPage * kPage;
  }
  Memory memory(total);
  reader_->RegisterMemory(memory.span().subspan(0, memory.span().size() / 2));
  for (size_t i = 0; i < cases.size(); ++i) {
    reader_->Submit({.file = 0,
                     .offset = cases[i].range.offset,
                     .target = memory.data() + cases[i].at,
                     .bytes = cases[i].range.bytes,
                     .tag = i},
                    i % 3 == 0 ? ReadPriority::kHint : ReadPriority::kDemand);
  }
  const auto results = ReapAll(*reader_);
  ASSERT_EQ(results.size(), cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    ASSERT_GE(results.at(i), static_cast<int64_t>(c.range.skip + c.bytes));
    ASSERT_EQ(std::memcmp(memory.data() + c.at + c.range.skip, content_.data() + c.offset, c.bytes),
              0)
        << "range " << i;
  }
}

TEST_P(BlockReaderContract, ReadAcrossTheEndIsShort) {
  Memory memory(4 * kPage);
  const uint64_t offset = kFileBytes / kPage * kPage;
  reader_->Submit({.file = 0, .offset = offset, .target = memory.data(), .bytes = 2 * kPage},
                  ReadPriority::kDemand);
  EXPECT_EQ(ReapAll(*reader_).at(0), static_cast<int64_t>(kFileBytes - offset));
  EXPECT_EQ(std::memcmp(memory.data(), content_.data() + offset, kFileBytes - offset), 0);
}

TEST_P(BlockReaderContract, ReadPastTheEndGivesNothing) {
  Memory memory(kPage);
  reader_->Submit({.file = 0, .offset = 1 << 20, .target = memory.data(), .bytes = kPage},
                  ReadPriority::kDemand);
  EXPECT_EQ(ReapAll(*reader_).at(0), 0);
}

TEST_P(BlockReaderContract, QueuedHintIsCancelledAndEnteredOneIsNot) {
  Memory memory(2 * kPage);
  reader_->Submit({.file = 0, .offset = 0, .target = memory.data(), .bytes = kPage, .tag = 1},
                  ReadPriority::kHint);
  reader_->Kick();
  reader_->Submit(
      {.file = 0, .offset = kPage, .target = memory.data() + kPage, .bytes = kPage, .tag = 2},
      ReadPriority::kHint);
  EXPECT_FALSE(reader_->Cancel(1));
  EXPECT_TRUE(reader_->Cancel(2));
  EXPECT_FALSE(reader_->Cancel(2));
  const auto results = ReapAll(*reader_);
  EXPECT_EQ(results.at(1), static_cast<int64_t>(kPage));
  EXPECT_EQ(results.at(2), -ECANCELED);
  EXPECT_EQ(memory.data()[kPage], std::byte{0xee});
}

TEST_P(BlockReaderContract, PromotionIsForQueuedHintsOnly) {
  Memory memory(2 * kPage);
  reader_->Submit({.file = 0, .offset = 0, .target = memory.data(), .bytes = kPage, .tag = 1},
                  ReadPriority::kHint);
  EXPECT_TRUE(reader_->Promote(1));
  EXPECT_FALSE(reader_->Promote(1));
  EXPECT_FALSE(reader_->Cancel(1));
  EXPECT_FALSE(reader_->Promote(9));
  EXPECT_EQ(ReapAll(*reader_).at(1), static_cast<int64_t>(kPage));
}

TEST_P(BlockReaderContract, ReapReturnsAtOnceWhenNothingIsUnderWay) {
  std::array<ReadCompletion, 1> done;
  EXPECT_EQ(reader_->Reap(absl::MakeSpan(done), Wait::kUntilOne), 0);
  EXPECT_EQ(reader_->Reap(absl::MakeSpan(done), Wait::kNo), 0);
}

TEST_P(BlockReaderContract, BacklogLargerThanTheDepthIsServedWhole) {
  const auto reader = Make({.queue_depth = 2, .hint_depth = 1, .direct = GetParam().direct});
  ASSERT_TRUE(reader->AddFile(path_).ok());
  Memory memory(64 * kPage);
  for (uint64_t i = 0; i < 64; ++i) {
    reader->Submit({.file = 0,
                    .offset = i * kPage,
                    .target = memory.data() + i * kPage,
                    .bytes = kPage,
                    .tag = i},
                   i % 2 == 0 ? ReadPriority::kHint : ReadPriority::kDemand);
  }
  EXPECT_EQ(ReapAll(*reader).size(), 64);
  EXPECT_EQ(std::memcmp(memory.data(), content_.data(), 64 * kPage), 0);
}

TEST_P(BlockReaderContract, MissingFileIsNotFound) {
  const auto file = reader_->AddFile(directory_.File("absent"));
  EXPECT_TRUE(absl::IsNotFound(file.status())) << file.status();
}

TEST_P(BlockReaderContract, ReadsUnderWayAreOverWhenTheReaderIsGone) {
  Memory memory(32 * kPage);
  for (uint64_t i = 0; i < 32; ++i) {
    reader_->Submit({.file = 0,
                     .offset = i * kPage,
                     .target = memory.data() + i * kPage,
                     .bytes = kPage,
                     .tag = i},
                    ReadPriority::kDemand);
  }
  reader_->Kick();
  reader_.reset();
  // Whatever the reads left behind, nothing writes here any more; a sanitizer would see it.
  std::memset(memory.data(), 0, 32 * kPage);
}

INSTANTIATE_TEST_SUITE_P(Readers, BlockReaderContract,
                         ::testing::Values(Kind{"uring"}, Kind{"uring", false}, Kind{"pread"},
                                           Kind{"pread", false}, Kind{"memory"}, Kind{"modelled"}),
                         [](const auto& kind) {
                           return std::string(kind.param.name) +
                                  (kind.param.direct ? "" : "_buffered");
                         });

class FileReaders : public ::testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    path_ = directory_.File("data");
    WriteBytes(path_, Noise(kFileBytes, 1));
    absl::StatusOr<BlockReaderChoice> choice = MakeBlockReader(GetParam(), {});
    if (!choice.ok()) GTEST_SKIP() << choice.status();
    reader_ = std::move(choice->reader);
  }
  TemporaryDirectory directory_{"."};
  std::string path_;
  std::unique_ptr<BlockReader> reader_;
};

TEST_P(FileReaders, IdentityChangesWhenTheFileShrinks) {
  ASSERT_TRUE(reader_->AddFile(path_).ok());
  const FileIdentity before = *reader_->Identify(0);
  EXPECT_EQ(before.bytes, kFileBytes);
  EXPECT_EQ(before, *reader_->Identify(0));
  std::filesystem::resize_file(path_, 100);
  const FileIdentity after = *reader_->Identify(0);
  EXPECT_NE(before, after);
  EXPECT_EQ(after.bytes, 100);
}

TEST_P(FileReaders, IdentityChangesWhenTheFileIsRewrittenInPlace) {
  ASSERT_TRUE(reader_->AddFile(path_).ok());
  const FileIdentity before = *reader_->Identify(0);
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, path_.c_str(), times, 0), 0);
  const FileIdentity after = *reader_->Identify(0);
  EXPECT_NE(before, after);
  EXPECT_EQ(after.mtime_ns, 1'000'000'005);
}

TEST_P(FileReaders, FileReplacedByRenameKeepsGivingWhatWasOpened) {
  ASSERT_TRUE(reader_->AddFile(path_).ok());
  const FileIdentity before = *reader_->Identify(0);
  WriteBytes(directory_.File("other"), Noise(kFileBytes, 2));
  std::filesystem::rename(directory_.File("other"), path_);
  EXPECT_EQ(before, *reader_->Identify(0));
  Memory memory(kPage);
  reader_->Submit({.file = 0, .offset = 0, .target = memory.data(), .bytes = kPage},
                  ReadPriority::kDemand);
  EXPECT_EQ(ReapAll(*reader_).at(0), static_cast<int64_t>(kPage));
  EXPECT_EQ(std::memcmp(memory.data(), Noise(kPage, 1).data(), kPage), 0);
}

TEST_P(FileReaders, DirectoryIsRefused) {
  const auto file = reader_->AddFile(directory_.path());
  EXPECT_TRUE(absl::IsInvalidArgument(file.status())) << file.status();
  EXPECT_THAT(file.status().ToString(), HasSubstr("directory"));
}

TEST_P(FileReaders, PipeIsRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo(directory_.File("pipe").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(reader_->AddFile(directory_.File("pipe")).status()));
}

TEST_P(FileReaders, RefusedDirectReadsAreSaid) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no tmpfs at /dev/shm";
  const TemporaryDirectory in_memory("/dev/shm");
  WriteBytes(in_memory.File("data"), Noise(kFileBytes, 5));
  EXPECT_THAT(reader_->notice(), IsEmpty());
  ASSERT_TRUE(reader_->AddFile(in_memory.File("data")).ok());
  EXPECT_THAT(reader_->notice(), HasSubstr("O_DIRECT refused"));
  EXPECT_THAT(reader_->notice(), HasSubstr(in_memory.File("data")));
  EXPECT_EQ(reader_->alignment(0), 1);
  Memory memory(kPage);
  reader_->Submit({.file = 0, .offset = 3, .target = memory.data() + 1, .bytes = 5},
                  ReadPriority::kDemand);
  EXPECT_EQ(ReapAll(*reader_).at(0), 5);
  EXPECT_EQ(std::memcmp(memory.data() + 1, Noise(kPage, 5).data() + 3, 5), 0);
}

INSTANTIATE_TEST_SUITE_P(Readers, FileReaders, ::testing::Values("uring", "pread"),
                         [](const auto& kind) { return std::string(kind.param); });

// Runs in a child, since limits and capabilities cannot be had back.
void ReadWithLowMemlockLimit(const std::string& path) {
  const rlimit low = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};  // enough for the ring itself
  if (setrlimit(RLIMIT_MEMLOCK, &low) != 0) std::_Exit(2);
  if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) std::_Exit(3);
  auto reader = MakeUringReader({});
  if (!reader.ok()) std::_Exit(4);
  if (!(*reader)->AddFile(path).ok()) std::_Exit(5);
  Memory memory(4 << 20);
  (*reader)->RegisterMemory(memory.span());
  const bool is_said = (*reader)->notice().find("memlock limit") != std::string::npos;
  (*reader)->Submit({.file = 0, .offset = 0, .target = memory.data(), .bytes = kPage},
                    ReadPriority::kDemand);
  const auto results = ReapAll(**reader);
  const bool is_read = results.at(0) == static_cast<int64_t>(kPage);
  std::fprintf(stderr, "said=%d read=%d\n", is_said, is_read);
  std::_Exit(is_said && is_read ? 0 : 1);
}

TEST(UringReaderDeathTest, LowMemlockLimitMeansUnregisteredReadsAndIsSaid) {
  if (!MakeUringReader({}).ok()) GTEST_SKIP() << "io_uring is refused on this machine";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TemporaryDirectory directory;
  WriteBytes(directory.File("data"), Noise(kFileBytes, 1));
  ASSERT_EQ(chmod(directory.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(directory.File("data").c_str(), 0644), 0);
  EXPECT_EXIT(ReadWithLowMemlockLimit(directory.File("data")), ::testing::ExitedWithCode(0),
              "said=1 read=1");
}

absl::StatusOr<std::unique_ptr<BlockReader>> Refuse() {
  return absl::UnavailableError("io_uring refused: no such thing");
}

TEST(ChooseBlockReader, AutoFallsBackToPreadAndSaysWhy) {
  const auto choice = ChooseBlockReader("auto", {}, Refuse);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->reader->name(), "pread");
  EXPECT_THAT(choice->notice, HasSubstr("io_uring refused: no such thing"));
}

TEST(ChooseBlockReader, UringAskedForAndRefusedIsAnError) {
  const auto choice = ChooseBlockReader("uring", {}, Refuse);
  EXPECT_TRUE(absl::IsUnavailable(choice.status()));
  EXPECT_THAT(choice.status().ToString(), HasSubstr("no such thing"));
}

TEST(ChooseBlockReader, PreadNeverAsksForUring) {
  const auto choice = ChooseBlockReader("pread", {}, Refuse);
  ASSERT_TRUE(choice.ok());
  EXPECT_THAT(choice->notice, IsEmpty());
}

TEST(ChooseBlockReader, UnknownKindListsTheKnownOnes) {
  const auto choice = ChooseBlockReader("mmap", {}, Refuse);
  EXPECT_TRUE(absl::IsInvalidArgument(choice.status()));
  EXPECT_THAT(choice.status().ToString(), HasSubstr("uring, pread and auto"));
}

TEST(CoverAligned, IsTheSmallestAlignedRangeAround) {
  const AlignedRange range = CoverAligned(5000, 10'000, 4096);
  EXPECT_EQ(range.offset, 4096);
  EXPECT_EQ(range.bytes, 12'288);
  EXPECT_EQ(range.skip, 904);
  const AlignedRange exact = CoverAligned(512, 1024, 512);
  EXPECT_EQ(exact.offset, 512);
  EXPECT_EQ(exact.bytes, 1024);
  EXPECT_EQ(exact.skip, 0);
  const AlignedRange odd = CoverAligned(7, 3, 1);
  EXPECT_EQ(odd.offset, 7);
  EXPECT_EQ(odd.bytes, 3);
}

TEST(MemoryReader, TestDecidesWhatCompletes) {
  MemoryReader reader(
      {.reader = {.queue_depth = 2, .hint_depth = 1}, .alignment = 1, .manual = true});
  reader.PutFile("f", std::vector<std::byte>(10, std::byte{3}));
  ASSERT_TRUE(reader.AddFile("f").ok());
  std::byte target[3];
  for (uint64_t tag : {1, 2, 3}) {
    reader.Submit({.file = 0, .offset = 0, .target = &target[tag - 1], .bytes = 1, .tag = tag},
                  tag == 1 ? ReadPriority::kHint : ReadPriority::kDemand);
  }
  reader.Kick();
  EXPECT_THAT(reader.entered(), ::testing::ElementsAre(2, 3));
  std::array<ReadCompletion, 4> done;
  EXPECT_EQ(reader.Reap(absl::MakeSpan(done), Wait::kNo), 0);
  EXPECT_TRUE(reader.Complete(3));
  ASSERT_EQ(reader.Reap(absl::MakeSpan(done), Wait::kNo), 1);
  EXPECT_EQ(done[0].tag, 3);
  EXPECT_THAT(reader.history(), ::testing::ElementsAre(2, 3, 1));
}

}  // namespace
}  // namespace stoker
