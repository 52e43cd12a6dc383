// A file of lines: what is read back, what a torn end leaves, who may have it.
#include "runtime/line_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LineFileTest : public ::testing::Test {
 protected:
  LineFile OpenOrDie(LineFile::Write write = {}) {
    absl::StatusOr<LineFile> file = LineFile::Open(path_, std::move(write));
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  void Put(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string Bytes() const {
    std::ostringstream bytes;
    bytes << std::ifstream(path_, std::ios::binary).rdbuf();
    return bytes.str();
  }
  static std::vector<std::string> Lines(const LineFile& file) {
    std::vector<std::string> lines;
    const absl::Status status = file.ForEach([&](std::string_view line) {
      lines.emplace_back(line);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return lines;
  }

  TemporaryDirectory folder_;
  const std::string path_ = folder_.File("lines");
};

TEST_F(LineFileTest, LinesComeBackInOrder) {
  LineFile file = OpenOrDie();
  EXPECT_THAT(Lines(file), IsEmpty());
  for (const char* line : {"one", "", "three"}) EXPECT_TRUE(file.Append(line).ok());
  EXPECT_TRUE(file.Sync().ok());
  EXPECT_THAT(Lines(file), ElementsAre("one", "", "three"));
  EXPECT_EQ(Bytes(), "one\n\nthree\n");
}

TEST_F(LineFileTest, OpeningChangesNothing) {
  Put("one\ntor");
  LineFile file = OpenOrDie();
  EXPECT_THAT(Lines(file), ElementsAre("one"));
  EXPECT_EQ(Bytes(), "one\ntor");
}

TEST_F(LineFileTest, TornLineIsCutOffWhereverItEnds) {
  const std::string whole = "one\n" + std::string(200'000, 'x') + "\n\nfour\n";
  const std::vector<size_t> sizes = {0,       1,       3,       4,       5,       65'536,  65'540,
                                     131'072, 200'004, 200'005, 200'006, 200'009, 200'010, 200'011};
  for (const size_t bytes : sizes) {
    const std::string cut = whole.substr(0, bytes);
    Put(cut);
    {
      LineFile file = OpenOrDie();
      ASSERT_TRUE(file.CutTornLine().ok());
    }
    EXPECT_TRUE(Bytes() == cut.substr(0, cut.rfind('\n') + 1)) << bytes;  // npos + 1 is 0
  }
}

TEST_F(LineFileTest, LinesAreAddedAfterWhatIsThere) {
  Put("one\ntor");
  LineFile file = OpenOrDie();
  ASSERT_TRUE(file.CutTornLine().ok());
  ASSERT_TRUE(file.Append("two").ok());
  EXPECT_EQ(Bytes(), "one\ntwo\n");
  ASSERT_TRUE(file.Clear().ok());
  ASSERT_TRUE(file.Append("three").ok());
  EXPECT_EQ(Bytes(), "three\n");
}

TEST_F(LineFileTest, LineIsOneWriteAndShortWritesAreResumed) {
  std::vector<size_t> asked;
  LineFile file = OpenOrDie([&](int fd, const char* bytes, size_t count) {
    asked.push_back(count);
    if (asked.size() == 2) {
      errno = EINTR;
      return ssize_t{-1};
    }
    return write(fd, bytes, std::min<size_t>(count, 4));
  });
  ASSERT_TRUE(file.Append("123").ok());
  EXPECT_THAT(asked, ElementsAre(4));
  ASSERT_TRUE(file.Append("abcdefg").ok());
  EXPECT_THAT(asked, ElementsAre(4, 8, 8, 4));
  EXPECT_EQ(Bytes(), "123\nabcdefg\n");
}

TEST_F(LineFileTest, FullDiskIsSaidAndNothingFollowsATornLine) {
  int calls = 0;
  LineFile file = OpenOrDie([&](int fd, const char* bytes, size_t count) {
    if (++calls == 1) return write(fd, bytes, count / 2);
    errno = ENOSPC;
    return ssize_t{-1};
  });
  const absl::Status status = file.Append("abcdefg");
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(MessageOf(status)), AllOf(HasSubstr(path_), HasSubstr("No space left"),
                                                    HasSubstr("likely: "), HasSubstr("try: ")));
  EXPECT_EQ(file.Append("next"), status);
  EXPECT_EQ(file.Sync(), status);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(Bytes(), "abcd");
}

TEST_F(LineFileTest, SecondWriterIsRefused) {
  const LineFile file = OpenOrDie();
  const absl::Status status = LineFile::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(status)),
              AllOf(HasSubstr("another process"), HasSubstr("try: ")));
}

TEST_F(LineFileTest, WhatIsNoFileIsRefused) {
  for (const std::string& path :
       {folder_.path(), std::string("/dev/null"), folder_.File("nowhere/lines")}) {
    const absl::Status status = LineFile::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(MessageOf(status)), AllOf(HasSubstr(path), HasSubstr("try: ")));
  }
}

}  // namespace
}  // namespace stoker
