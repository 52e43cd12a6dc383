// Unsound GGUF files: each is refused with a message, none costs more than its own size.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

#include "base/status.h"
#include "io/gguf.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kU64Max = std::numeric_limits<uint64_t>::max();
constexpr int64_t kI64Max = std::numeric_limits<int64_t>::max();

template <typename T>
std::string Raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

absl::Status ParseStatus(const std::vector<uint8_t>& bytes) {
  return GgufModel::Parse(bytes, "test.gguf").status();
}

void ExpectRefused(const GgufWriter& writer, absl::StatusCode code, const std::string& words) {
  const absl::Status status = ParseStatus(writer.Build());
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(status.ToString(), AllOf(HasSubstr(words), HasSubstr("test.gguf")));
}

void ExpectDataLoss(const GgufWriter& writer, const std::string& words) {
  ExpectRefused(writer, absl::StatusCode::kDataLoss, words);
}

GgufWriter WithTensor(int32_t type, std::vector<int64_t> dims, uint64_t offset = 0) {
  GgufWriter writer;
  writer.AddRaw({.name = "weight",
                 .type = type,
                 .dims = std::move(dims),
                 .data = std::vector<uint8_t>(64),
                 .offset = offset});
  return writer;
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

// ---- header

TEST(GgufMalformed, EmptyFile) {
  const absl::Status status = ParseStatus({});
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("empty"));
}

TEST(GgufMalformed, ThreeBytes) {
  EXPECT_TRUE(absl::IsInvalidArgument(ParseStatus({'G', 'G', 'U'})));
}

TEST(GgufMalformed, WrongMagic) {
  GgufWriter writer;
  writer.header.magic = "GGML";
  ExpectRefused(writer, kInvalid, "not a GGUF");
}

TEST(GgufMalformed, GitLfsPointer) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
  EXPECT_THAT(ParseStatus({pointer.begin(), pointer.end()}).ToString(), HasSubstr("git lfs pull"));
}

TEST(GgufMalformed, ObsoleteVersions) {
  for (const uint32_t version : {0, 1}) {
    GgufWriter writer;
    writer.header.version = version;
    ExpectRefused(writer, kInvalid, "obsolete");
  }
}

TEST(GgufMalformed, BigEndian) {
  GgufWriter writer;
  writer.header.version = 0x03000000;
  ExpectRefused(writer, kInvalid, "big-endian");
}

TEST(GgufMalformed, NewerVersion) {
  GgufWriter writer;
  writer.header.version = 4;
  ExpectRefused(writer, kUnimplemented, "version 4 is newer");
}

TEST(GgufMalformed, CountsBeyondTheFile) {
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 62, kU64Max}) {
    GgufWriter keys;
    keys.header.kv_count = count;
    ExpectDataLoss(keys, "keys");
    GgufWriter tensors;
    tensors.header.tensor_count = count;
    ExpectDataLoss(tensors, "tensors");
  }
}

TEST(GgufMalformed, EveryTruncationIsRefused) {
  GgufWriter writer;
  writer.Set("general.architecture", "test").SetArray<std::string>("words", {"one", "two"});
  writer.SetArray<float>("floats", {1, 2, 3}).AddTensor("a", {3}, {1, 2, 3});
  writer.AddTensor("b", {5}, {1, 2, 3, 4, 5});
  const std::vector<uint8_t> whole = writer.Build();
  ASSERT_TRUE(ParseStatus(whole).ok());
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_FALSE(ParseStatus({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)}).ok())
        << bytes << " of " << whole.size() << " bytes";
  }
}

// ---- keys

TEST(GgufMalformed, KeyLengthBeyondTheFile) {
  for (const uint64_t length : {uint64_t{10'000}, kU64Max, kU64Max - 7}) {
    std::vector<uint8_t> bytes = GgufWriter().Set("key", uint64_t{0}).Build();
    std::memcpy(bytes.data() + 24, &length, sizeof(length));
    EXPECT_THAT(ParseStatus(bytes).ToString(), HasSubstr("a key at byte"));
  }
}

TEST(GgufMalformed, KeyWithoutName) {
  ExpectDataLoss(GgufWriter().Set("", uint64_t{1}), "no name");
}

TEST(GgufMalformed, KeyLongerThanTheFormatAllows) {
  ExpectDataLoss(GgufWriter().Set(std::string(65'536, 'k'), true), "65535 is the most");
}

TEST(GgufMalformed, SameKeyTwice) {
  ExpectDataLoss(GgufWriter().Set("key", true).Set("key", false), "'key' occurs twice");
}

TEST(GgufMalformed, UnknownValueTypes) {
  for (const int32_t type : {13, 255, -1, std::numeric_limits<int32_t>::min()}) {
    ExpectDataLoss(GgufWriter().SetRaw("key", type, std::string(16, '\0')), "unknown");
    ExpectDataLoss(GgufWriter().SetRawArray("key", type, 1, std::string(16, '\0')), "unknown");
  }
}

TEST(GgufMalformed, ArrayOfArrays) {
  ExpectDataLoss(GgufWriter().SetRawArray("key", 9, 1, std::string(16, '\0')), "array of arrays");
}

TEST(GgufMalformed, ArrayCountBeyondTheFile) {
  for (int32_t type : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}) {
    for (const uint64_t count : {uint64_t{17}, uint64_t{1} << 61, kU64Max}) {
      ExpectDataLoss(GgufWriter().SetRawArray("key", type, count, std::string(16, '\0')),
                     "an array of");
    }
  }
}

TEST(GgufMalformed, StringLengthBeyondTheFile) {
  ExpectDataLoss(GgufWriter().SetRaw("key", 8, Raw(kU64Max)), "a string");
  ExpectDataLoss(GgufWriter().SetRawArray("key", 8, 1, Raw(uint64_t{1} << 40)), "a string");
}

TEST(GgufMalformed, BooleanThatIsNeither) {
  ExpectDataLoss(GgufWriter().SetRaw("key", 7, "\x02"), "a boolean holds 2");
  ExpectDataLoss(GgufWriter().SetRawArray("key", 7, 2, std::string("\x01\xff", 2)), "255");
}

TEST(GgufMalformed, AlignmentThatIsNone) {
  for (const uint32_t alignment : {0u, 3u, 48u, 1u << 21, 0x80000000u}) {
    ExpectDataLoss(GgufWriter().Set("general.alignment", alignment), "general.alignment");
  }
  ExpectDataLoss(GgufWriter().Set("general.alignment", kU64Max), "general.alignment");
  ExpectDataLoss(GgufWriter().Set("general.alignment", int32_t{32}), "general.alignment");
  ExpectDataLoss(GgufWriter().Set("general.alignment", "32"), "general.alignment");
}

TEST(GgufMalformed, ControlBytesOfAFileDoNotReachTheTerminal) {
  const absl::Status status =
      ParseStatus(GgufWriter().Set("\x1b[2J", true).Set("\x1b[2J", true).Build());
  EXPECT_THAT(std::string(MessageOf(status)), AllOf(HasSubstr("'?[2J'"), Not(HasSubstr("\x1b"))));
}

// ---- tensors

TEST(GgufMalformed, UnknownAndRemovedTensorTypes) {
  for (const int32_t type : {4, 5, 31, 32, 33, 36, 37, 38, 43, 1000, -1}) {
    ExpectRefused(WithTensor(type, {32}), kUnimplemented,
                  "'weight' has type id " + std::to_string(type));
  }
}

TEST(GgufMalformed, DimensionCounts) {
  ExpectDataLoss(WithTensor(0, {}), "0 dimensions");
  ExpectDataLoss(WithTensor(0, {1, 1, 1, 1, 1}), "5 dimensions");
}

TEST(GgufMalformed, DimensionsThatCannotBe) {
  ExpectDataLoss(WithTensor(0, {0}), "dimension 0 is 0");
  ExpectDataLoss(WithTensor(0, {4, -1}), "dimension 1 is -1");
  ExpectDataLoss(WithTensor(0, {std::numeric_limits<int64_t>::min()}), "dimension 0");
}

TEST(GgufMalformed, DimensionsWhoseProductOverflows) {
  ExpectDataLoss(WithTensor(0, {kI64Max, 2}), "dimension 1");
  ExpectDataLoss(WithTensor(0, {int64_t{1} << 32, int64_t{1} << 32}), "dimension 1");
  ExpectDataLoss(WithTensor(0, {int64_t{1} << 31, int64_t{1} << 31, 8}), "dimension 2");
}

TEST(GgufMalformed, BytesThatOverflow) {
  ExpectDataLoss(WithTensor(0, {int64_t{1} << 62}), "overflow");
  ExpectDataLoss(WithTensor(28, {int64_t{1} << 61}), "overflow");
}

TEST(GgufMalformed, RowsThatAreNoWholeBlocks) {
  ExpectDataLoss(WithTensor(12, {255}), "do not divide into blocks of 256 (Q4_K)");
  ExpectDataLoss(WithTensor(8, {33}), "blocks of 32 (Q8_0)");
}

TEST(GgufMalformed, OffsetOutOfAlignment) {
  ExpectDataLoss(WithTensor(0, {4}, 16), "no multiple of the alignment 32");
}

TEST(GgufMalformed, OffsetsThatOverflow) {
  ExpectDataLoss(WithTensor(0, {4}, kU64Max - 31), "overflows");
  ExpectDataLoss(WithTensor(0, {int64_t{1} << 59}, uint64_t{1} << 63), "truncated");
  ExpectDataLoss(WithTensor(0, {(int64_t{1} << 60) + 32}, kU64Max - (uint64_t{1} << 62) + 1),
                 "overflows");
}

TEST(GgufMalformed, HalfDownloadedFileSaysBothSizes) {
  std::vector<uint8_t> bytes = GgufWriter().AddZeros("weight", Dtype::kF32, {1000}).Build();
  const size_t whole = bytes.size();
  bytes.resize(whole - 2000);
  const absl::Status status = ParseStatus(bytes);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(),
              AllOf(HasSubstr("truncated"), HasSubstr("need " + std::to_string(whole) + " bytes"),
                    HasSubstr("has " + std::to_string(whole - 2000)), HasSubstr("'weight'")));
}

TEST(GgufMalformed, OverlappingTensors) {
  GgufWriter writer = WithTensor(0, {16}, 0);
  writer.AddRaw(
      {.name = "other", .type = 0, .dims = {8}, .data = std::vector<uint8_t>(64), .offset = 32});
  ExpectDataLoss(writer, "'weight' and 'other' overlap");
}

TEST(GgufMalformed, SameTensorNameTwice) {
  GgufWriter writer = WithTensor(0, {8}, 0);
  writer.AddRaw(
      {.name = "weight", .type = 0, .dims = {8}, .data = std::vector<uint8_t>(64), .offset = 64});
  ExpectDataLoss(writer, "'weight' occurs twice");
}

TEST(GgufMalformed, TensorNames) {
  GgufWriter nameless;
  nameless.AddTensor("", {1}, {1});
  ExpectDataLoss(nameless, "no name");
  GgufWriter wordy;
  wordy.AddTensor(std::string(65, 'n'), {1}, {1});
  ExpectDataLoss(wordy, "64 is the most");
}

TEST(GgufMalformed, FileOnDiskIsJudgedAsBytesInMemoryAre) {
  const TemporaryDirectory directory;
  std::vector<uint8_t> bytes = GgufWriter().AddZeros("weight", Dtype::kF32, {100'000}).Build();
  bytes.resize(bytes.size() / 2);
  WriteBytes(directory.File("m.gguf"), bytes);
  const absl::Status status = GgufModel::Open(directory.File("m.gguf")).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), AllOf(HasSubstr("m.gguf"), HasSubstr("truncated")));
}

}  // namespace
}  // namespace stoker
