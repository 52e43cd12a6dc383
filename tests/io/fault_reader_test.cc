// The faults that other tests count on do happen, can be repeated, and end.
#include "tests/testing/fault_reader.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <vector>

#include "base/check.h"
#include "tests/testing/memory_reader.h"

namespace stoker {
namespace {

using Wait = BlockReader::Wait;

constexpr size_t kUnit = 512;
constexpr size_t kReadBytes = 8 * kUnit;

class FaultReaderTest : public ::testing::Test {
 protected:
  FaultReaderTest() {
    memory_.PutFile("f", std::vector<std::byte>(64 * kReadBytes, std::byte{7}));
    CHECK(memory_.AddFile("f").ok());
  }
  // Reads place `index` and returns its result; `data` is what arrived.
  int64_t Read(FaultReader& reader, uint64_t index) {
    reader.Submit({.file = 0,
                   .offset = index * kReadBytes,
                   .target = target_.data(),
                   .bytes = kReadBytes,
                   .tag = index},
                  ReadPriority::kDemand);
    std::array<ReadCompletion, 1> done;
    CHECK(reader.Reap(absl::MakeSpan(done), Wait::kUntilOne) == 1 && done[0].tag == index);
    return done[0].result;
  }
  int WrongBits(size_t bytes) const {
    int wrong = 0;
    for (size_t i = 0; i < bytes; ++i) {
      wrong += __builtin_popcount(static_cast<unsigned>(target_[i] ^ std::byte{7}));
    }
    return wrong;
  }

  MemoryReader memory_;
  alignas(kUnit) std::array<std::byte, kReadBytes> target_;
};

TEST_F(FaultReaderTest, WithoutFaultsItIsTheInnerReader) {
  FaultReader reader(memory_, {});
  EXPECT_EQ(Read(reader, 5), static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(WrongBits(kReadBytes), 0);
  EXPECT_EQ(reader.injected(), 0);
}

TEST_F(FaultReaderTest, ShortReadsKeepWholeUnitsAndScribbleTheRest) {
  FaultReader reader(memory_, {.short_read = 1});
  const int64_t got = Read(reader, 1);
  EXPECT_GT(got, 0);
  EXPECT_LT(got, static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(got % static_cast<int64_t>(kUnit), 0);
  EXPECT_EQ(WrongBits(static_cast<size_t>(got)), 0);
  EXPECT_GT(WrongBits(kReadBytes), 0);
}

TEST_F(FaultReaderTest, ErrorsEndAfterSoManyInARow) {
  FaultReader reader(memory_, {.io_error = 1, .consecutive_max = 2});
  EXPECT_EQ(Read(reader, 1), -EIO);
  EXPECT_EQ(Read(reader, 1), -EIO);
  EXPECT_EQ(Read(reader, 1), static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(Read(reader, 1), -EIO);
}

TEST_F(FaultReaderTest, EveryKindOfFaultStrikes) {
  FaultReader reader(memory_, {.short_read = 0.2,
                               .io_error = 0.2,
                               .interrupted = 0.2,
                               .try_again = 0.2,
                               .bit_flip = 0.2,
                               .consecutive_max = 100});
  int short_reads = 0, io_errors = 0, interrupted = 0, again = 0, flips = 0;
  for (uint64_t i = 0; i < 64; ++i) {
    const int64_t got = Read(reader, i);
    short_reads += got > 0 && got < static_cast<int64_t>(kReadBytes);
    io_errors += got == -EIO;
    interrupted += got == -EINTR;
    again += got == -EAGAIN;
    flips += got == static_cast<int64_t>(kReadBytes) && WrongBits(kReadBytes) == 1;
  }
  EXPECT_GT(short_reads, 0);
  EXPECT_GT(io_errors, 0);
  EXPECT_GT(interrupted, 0);
  EXPECT_GT(again, 0);
  EXPECT_GT(flips, 0);
  EXPECT_EQ(short_reads + io_errors + interrupted + again + flips, 64);
}

TEST_F(FaultReaderTest, SameSeedSameFaultsInAnyOrder) {
  const FaultReader::Faults faults = {.seed = 9, .short_read = 0.3, .io_error = 0.3};
  FaultReader forward(memory_, faults), backward(memory_, faults);
  std::array<int64_t, 64> one, other;
  for (uint64_t i = 0; i < 64; ++i) one[i] = Read(forward, i);
  for (uint64_t i = 64; i-- > 0;) other[i] = Read(backward, i);
  EXPECT_EQ(one, other);
}

TEST_F(FaultReaderTest, StalledReadIsWithheldForSoManyReaps) {
  FaultReader reader(memory_, {.stall = 1, .stall_reaps = 3});
  reader.Submit({.file = 0, .offset = 0, .target = target_.data(), .bytes = kReadBytes, .tag = 1},
                ReadPriority::kDemand);
  std::array<ReadCompletion, 1> done;
  // The memory reader may itself leave a read pending for a reap or two.
  int reaps = 1;
  while (reader.Reap(absl::MakeSpan(done), Wait::kNo) == 0) ++reaps;
  EXPECT_GT(reaps, 3);
  EXPECT_EQ(reader.in_flight(), 0);
}

TEST_F(FaultReaderTest, WaitingOutlastsAStall) {
  FaultReader reader(memory_, {.stall = 1, .stall_reaps = 50});
  EXPECT_EQ(Read(reader, 3), static_cast<int64_t>(kReadBytes));
}

TEST_F(FaultReaderTest, FailedRangeFailsForEverOrSoOften) {
  FaultReader reader(memory_, {});
  reader.FailRange(0, kReadBytes + 5, kReadBytes + 6, EIO);
  reader.FailRange(0, 3 * kReadBytes, 4 * kReadBytes, EAGAIN, 2);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Read(reader, 1), -EIO);
  EXPECT_EQ(Read(reader, 2), static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(Read(reader, 3), -EAGAIN);
  EXPECT_EQ(Read(reader, 3), -EAGAIN);
  EXPECT_EQ(Read(reader, 3), static_cast<int64_t>(kReadBytes));
}

TEST_F(FaultReaderTest, FlippedByteIsOneBitOnce) {
  FaultReader reader(memory_, {});
  reader.FlipByte(0, kReadBytes + 17);
  EXPECT_EQ(Read(reader, 1), static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(WrongBits(kReadBytes), 1);
  EXPECT_EQ(Read(reader, 1), static_cast<int64_t>(kReadBytes));
  EXPECT_EQ(WrongBits(kReadBytes), 0);
}

}  // namespace
}  // namespace stoker
