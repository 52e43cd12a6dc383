// The usage profile: what it keeps, what it never trusts, and that no kill leaves a broken one.
#include "runtime/usage_profile.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/atomic_file.h"
#include "runtime/usage_recorder.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kIdentity = 0x1234;

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteText(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class UsageProfileTest : public ::testing::Test {
 protected:
  UsageProfile Read(int64_t expert_count = 3) {
    return ReadProfile(path_, kIdentity, expert_count);
  }

  TemporaryDirectory folder_;
  const std::string path_ = folder_.File("a.profile");
  const std::vector<uint32_t> uses_ = {7, 0, 4'000'000'000};
};

TEST_F(UsageProfileTest, WhatIsWrittenIsReadBack) {
  ASSERT_TRUE(ReplaceFile(path_, EncodeProfile(kIdentity, uses_)).ok());
  const UsageProfile profile = Read();
  EXPECT_EQ(profile.uses, uses_);
  EXPECT_EQ(profile.notice, "");
  EXPECT_TRUE(profile.may_replace);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

TEST_F(UsageProfileTest, NoFileIsNoProfileAndNoNotice) {
  const UsageProfile profile = Read();
  EXPECT_THAT(profile.uses, IsEmpty());
  EXPECT_EQ(profile.notice, "");
  EXPECT_TRUE(profile.may_replace);
}

TEST_F(UsageProfileTest, TornAtAnyByteIsIgnoredWithAWord) {
  const std::string whole = EncodeProfile(kIdentity, uses_);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    WriteText(path_, whole.substr(0, bytes));
    const UsageProfile profile = Read();
    EXPECT_THAT(profile.uses, IsEmpty()) << bytes;
    EXPECT_THAT(profile.notice, AllOf(HasSubstr(path_), HasSubstr("is ignored"))) << bytes;
    EXPECT_TRUE(profile.may_replace) << bytes;
  }
  WriteText(path_, whole + "x");
  EXPECT_THAT(Read().notice, HasSubstr("is ignored"));
}

TEST_F(UsageProfileTest, AnyFlippedBitIsNoticed) {
  const std::string whole = EncodeProfile(kIdentity, uses_);
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    WriteText(path_, flipped);
    const UsageProfile profile = Read();
    EXPECT_THAT(profile.uses, IsEmpty()) << bit;
    EXPECT_THAT(profile.notice, HasSubstr("is ignored")) << bit;
  }
}

TEST_F(UsageProfileTest, ForeignNewerAndOtherFilesAreIgnoredAndLeftAlone) {
  std::string newer = EncodeProfile(kIdentity, uses_);
  newer[8] = 2;
  const std::vector<std::pair<std::string, const char*>> files = {
      {EncodeProfile(kIdentity + 1, uses_), "another model"},
      {EncodeProfile(kIdentity + 1, std::vector<uint32_t>(1000, 1)), "another model"},
      {newer, "version 2"},
      {"GGUF and a lot of weights", "no usage profile"},
  };
  for (const auto& [bytes, words] : files) {
    WriteText(path_, bytes);
    const UsageProfile profile = Read();
    EXPECT_THAT(profile.uses, IsEmpty());
    EXPECT_THAT(profile.notice, AllOf(HasSubstr(words), HasSubstr("leaves it alone"),
                                      HasSubstr("try: another --profile")));
    EXPECT_FALSE(profile.may_replace);
  }
}

TEST_F(UsageProfileTest, AFolderInItsPlaceIsIgnoredWithAWord) {
  std::filesystem::create_directory(path_);
  const UsageProfile profile = Read();
  EXPECT_THAT(profile.notice, HasSubstr(path_));
  EXPECT_FALSE(profile.may_replace);
}

// Ends a child process before the `kill_at`-th step of replacing the file; whether it was ended.
bool ReplaceAndKill(const std::string& path, const std::string& bytes, int kill_at) {
  const pid_t child = fork();
  if (child == 0) {
    int step = 0;
    const absl::Status status = ReplaceFile(path, bytes, [&](FileStep) {
      if (step++ == kill_at) kill(getpid(), SIGKILL);
    });
    _exit(status.ok() ? 0 : 1);
  }
  int ended = 0;
  EXPECT_EQ(waitpid(child, &ended, 0), child);
  EXPECT_TRUE(WIFSIGNALED(ended) || WEXITSTATUS(ended) == 0);
  return WIFSIGNALED(ended);
}

TEST_F(UsageProfileTest, KilledAtAnyStepTheFileIsTheOldOrTheNewOne) {
  const std::vector<uint32_t> before(5000, 3), after(5000, 9);  // several chunks
  for (const bool has_before : {false, true}) {
    int kill_at = 0;
    bool was_killed = true;
    bool has_changed = false;
    for (; was_killed; ++kill_at) {
      std::filesystem::remove(path_);  // what the last kill left beside it stays
      if (has_before) {
        ASSERT_TRUE(ReplaceFile(path_, EncodeProfile(kIdentity, before)).ok());
      }
      was_killed = ReplaceAndKill(path_, EncodeProfile(kIdentity, after), kill_at);
      const UsageProfile left = Read(5000);
      EXPECT_EQ(left.notice, "") << kill_at;
      has_changed |= left.uses == after;
      EXPECT_EQ(left.uses, has_changed  ? after
                           : has_before ? before
                                        : std::vector<uint32_t>())
          << kill_at;
      // The next run does not trip over what is there, and can save.
      ASSERT_TRUE(ReplaceFile(path_, EncodeProfile(kIdentity, after)).ok()) << kill_at;
      EXPECT_EQ(Read(5000).uses, after);
      EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
    }
    EXPECT_GT(kill_at, 8);  // the steps were walked through
  }
}

TEST_F(UsageProfileTest, AFileThatAnotherProcessWritesIsLeftToIt) {
  const int other = open((path_ + ".new").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_EQ(flock(other, LOCK_EX), 0);
  ASSERT_EQ(write(other, "theirs", 6), 6);
  const absl::Status status = ReplaceFile(path_, "ours");
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("another process"));
  EXPECT_EQ(ReadBytes(path_ + ".new"), "theirs");
  close(other);
}

TEST_F(UsageProfileTest, AFileThatCannotBeWrittenIsNamed) {
  const absl::Status status = ReplaceFile(folder_.File("no/such/a.profile"), "x");
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("no/such/a.profile"));
}

TEST(FadeAndAdd, NewUsesCountWholeAndOldOnesFadeByThem) {
  EXPECT_THAT(FadeAndAdd({}, std::vector<uint64_t>{1, 0}), ElementsAre(kUsageUnit, 0));
  // As many uses an expert as halve: 2 x 256.
  EXPECT_THAT(FadeAndAdd(std::vector<uint32_t>{1000, 600}, std::vector<uint64_t>{512, 0}),
              ElementsAre(500 + 512 * kUsageUnit, 300));
  EXPECT_THAT(FadeAndAdd(std::vector<uint32_t>{1000, 600}, std::vector<uint64_t>{0, 0}),
              ElementsAre(1000, 600));
  EXPECT_THAT(FadeAndAdd({}, std::vector<uint64_t>{uint64_t{1} << 40}), ElementsAre(UINT32_MAX));
}

TEST(HotnessOrder, MostUsedFirstAndUnusedLeftOut) {
  EXPECT_THAT(HotnessOrder(std::vector<uint32_t>{3, 0, 9, 3}), ElementsAre(2, 0, 3));
}

// Sets a variable for the life of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    Set(value);
  }
  ~Variable() { Set(old_.has_value() ? old_->c_str() : nullptr); }

 private:
  void Set(const char* value) {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> old_;
};

TEST(ProfilePath, AutoIsInTheUsersCacheAndItsFolderIsMade) {
  const TemporaryDirectory folder;
  const Variable home("HOME", folder.path().c_str());
  {
    const Variable cache("XDG_CACHE_HOME", nullptr);
    EXPECT_EQ(ProfilePath("auto", 0xab).value(),
              folder.File(".cache/stoker/profiles/00000000000000ab.profile"));
    EXPECT_TRUE(std::filesystem::is_directory(folder.File(".cache/stoker/profiles")));
  }
  const std::string elsewhere = folder.File("elsewhere");
  const Variable cache("XDG_CACHE_HOME", elsewhere.c_str());
  EXPECT_EQ(ProfilePath("auto", 0xab).value(),
            elsewhere + "/stoker/profiles/00000000000000ab.profile");
}

TEST(ProfilePath, WithoutAPlaceSaysWhatToTry) {
  const Variable home("HOME", nullptr);
  const Variable cache("XDG_CACHE_HOME", nullptr);
  for (const char* option : {"auto", "/no/such/folder/a.profile"}) {
    const absl::StatusOr<std::string> path = ProfilePath(option, 1);
    EXPECT_EQ(path.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(MessageOf(path.status())), HasSubstr("try: --profile FILE"));
  }
}

class UsageRecorderTest : public UsageProfileTest {
 protected:
  UsageRecorderTest() {
    catalog_.layers = {{.layer = 1, .expert_count = 2}, {.layer = 3, .expert_count = 2}};
  }
  UsageRecorder::Options Options() {
    return {.path = path_, .identity = kIdentity, .before = Read(4)};
  }
  static void Use(UsageRecorder& recorder, int layer, std::vector<int32_t> experts) {
    recorder.OnRouting(layer, 1, experts, {});
  }

  ExpertCatalog catalog_;
  VirtualClock clock_;
};

TEST_F(UsageRecorderTest, IdleSavesAndTheNextRunAdds) {
  for (uint32_t run = 1; run <= 2; ++run) {
    UsageRecorder recorder(catalog_, Options(), clock_);
    Use(recorder, 1, {0, 0, 1});
    Use(recorder, 3, {1});
    recorder.EndStep(/*is_idle=*/true);
    ASSERT_TRUE(recorder.status().ok());
    const std::vector<uint32_t> uses = Read(4).uses;
    ASSERT_EQ(uses.size(), 4u);
    EXPECT_NEAR(uses[0], 2 * run * kUsageUnit, 4);
    EXPECT_NEAR(uses[1], run * kUsageUnit, 4);
    EXPECT_EQ(uses[2], 0u);
    EXPECT_NEAR(uses[3], run * kUsageUnit, 4);
  }
}

TEST_F(UsageRecorderTest, SavesEverySoOftenAndAtTheEnd) {
  {
    UsageRecorder recorder(catalog_, Options(), clock_);
    Use(recorder, 1, {0});
    recorder.EndStep(false);
    clock_.AdvanceNs(UsageRecorder::kSavePeriodNs);
    Use(recorder, 1, {0});
    recorder.EndStep(false);  // due
    Use(recorder, 1, {1});
    recorder.EndStep(false);  // not due: for the end
  }
  EXPECT_THAT(Read(4).uses, ElementsAre(2 * kUsageUnit, kUsageUnit, 0, 0));
}

TEST_F(UsageRecorderTest, WithoutUsesNothingIsWritten) {
  { const UsageRecorder recorder(catalog_, Options(), clock_); }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UsageRecorderTest, SomebodyElsesFileIsNotReplaced) {
  WriteText(path_, "precious");
  {
    UsageRecorder recorder(catalog_, Options(), clock_);
    Use(recorder, 1, {0});
    recorder.EndStep(true);
  }
  EXPECT_EQ(ReadBytes(path_), "precious");
}

TEST_F(UsageRecorderTest, WhatCannotBeSavedIsSaid) {
  UsageRecorder::Options options = Options();
  options.path = folder_.File("no/such/a.profile");
  UsageRecorder recorder(catalog_, options, clock_);
  Use(recorder, 1, {0});
  recorder.EndStep(true);
  EXPECT_THAT(std::string(MessageOf(recorder.status())), HasSubstr("no/such/a.profile"));
}

}  // namespace
}  // namespace stoker
