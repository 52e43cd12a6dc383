// Safetensors: what is written can be read, and what is unsound is refused.
#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class SafetensorsTest : public ::testing::Test {
 protected:
  std::string Path() const { return directory_.File("t.safetensors"); }
  absl::StatusOr<Safetensors> Open(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    std::vector<uint8_t> bytes(8);
    std::memcpy(bytes.data(), &length, 8);
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.insert(bytes.end(), data.begin(), data.end());
    WriteBytes(Path(), bytes);
    return Safetensors::Open(Path());
  }
  void ExpectDataLoss(const std::string& header, const std::string& data,
                      const std::string& words) {
    const absl::Status status = Open(header, data).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << header << " gives " << status;
    EXPECT_THAT(status.ToString(), HasSubstr(words));
  }
  std::unique_ptr<SafetensorsWriter> Writer(std::vector<SafetensorsWriter::Tensor> tensors) {
    auto writer = SafetensorsWriter::Create(Path(), std::move(tensors));
    CHECK(writer.ok());
    return *std::move(writer);
  }
  size_t FilesThere() const {
    const std::filesystem::directory_iterator files(directory_.path());
    return static_cast<size_t>(std::distance(begin(files), end(files)));
  }

  TemporaryDirectory directory_;
};

TEST_F(SafetensorsTest, ReadsEveryFloatType) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},
          "f16":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},
          "bf16":{"dtype":"BF16","shape":[2],"data_offsets":[10,14]},
          "f32":{"dtype":"F32","shape":[],"data_offsets":[14,18]},
          "f64":{"dtype":"F64","shape":[1,1],"data_offsets":[18,26]}})";
  std::string data(26, '\0');
  const uint16_t halves[5] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x8000};
  const uint16_t brains[2] = {0x3f80, 0xc040};
  const float f32 = 0.1f;
  const double f64 = -2.5;
  std::memcpy(data.data(), halves, 10);
  std::memcpy(data.data() + 10, brains, 4);
  std::memcpy(data.data() + 14, &f32, 4);
  std::memcpy(data.data() + 18, &f64, 8);
  const auto file = Open(header, data);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->names(), ElementsAre("bf16", "f16", "f32", "f64"));
  const auto f16 = *file->Floats("f16");
  EXPECT_THAT(f16, ElementsAre(1.0f, -2.0f, 0x1p-24f, INFINITY, 0.0f));
  EXPECT_TRUE(std::signbit(f16[4]));
  EXPECT_THAT(*file->Floats("bf16"), ElementsAre(1.0f, -3.0f));
  EXPECT_THAT(*file->Floats("f32"), ElementsAre(0.1f));
  EXPECT_THAT(*file->Floats("f64"), ElementsAre(-2.5f));
  EXPECT_THAT(file->Find("f64")->shape, ElementsAre(1, 1));
  EXPECT_TRUE(absl::IsInvalidArgument(file->Ints("f32").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(file->Floats("absent").status()));
}

TEST_F(SafetensorsTest, ReadsIntegers) {
  const auto file = Open(R"({"i":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},
                             "u":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
                         std::string("\xff\xff\xff\xff\x07\xff", 6));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*file->Ints("i"), ElementsAre(-1));
  EXPECT_THAT(*file->Ints("u"), ElementsAre(7, 255));
  EXPECT_TRUE(absl::IsInvalidArgument(file->Floats("i").status()));
}

TEST_F(SafetensorsTest, RefusesHeadersThatLie) {
  const std::string four(4, '\0');
  const auto entry = [](const std::string& fields) { return R"({"t":{)" + fields + "}}"; };
  ExpectDataLoss("", "", "not a JSON object");
  ExpectDataLoss("[]", "", "not a JSON object");
  ExpectDataLoss(R"({"t":)", "", "not a JSON object");
  ExpectDataLoss(R"({"t":3})", four, "dtype is missing");
  ExpectDataLoss(entry(R"("dtype":"F32","data_offsets":[0,4])"), four, "'shape'");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[1])"), four, "'data_offsets'");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), four, "'shape'");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])"), four, "'shape'");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), four, "within");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), four, "truncated");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,4])"), four, "within");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), four, "need 8");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])"),
                 four, "overflows");
  ExpectDataLoss(entry(R"("dtype":"F32","shape":[1],"data_offsets":[18446744073709551615,4])"),
                 four, "'data_offsets'");
  const auto unknown = Open(entry(R"("dtype":"F3","shape":[1],"data_offsets":[0,4])"), four);
  EXPECT_TRUE(absl::IsUnimplemented(unknown.status())) << unknown.status();
}

TEST_F(SafetensorsTest, RefusesHolesOverlapsAndLeftovers) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  ExpectDataLoss("{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", "abcdef",
                 "overlap");
  ExpectDataLoss("{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})", "abcdef",
                 "hole");
  ExpectDataLoss("{" + a + "}", "abcdef", "6 bytes of data where the tensors need 4");
}

TEST_F(SafetensorsTest, RefusesTheSameNameTwice) {
  ExpectDataLoss(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                     "t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                 "x", "twice");
}

TEST_F(SafetensorsTest, RefusesDeepNestingWithoutRecursion) {
  ExpectDataLoss(R"({"t":)" + std::string(1'000'000, '['), "", "nested too deeply");
}

TEST_F(SafetensorsTest, RefusesLengthsBeyondTheFile) {
  for (const uint64_t length : {uint64_t{9}, uint64_t{1} << 40, ~uint64_t{0}}) {
    std::vector<uint8_t> bytes(16, ' ');
    std::memcpy(bytes.data(), &length, 8);
    WriteBytes(Path(), bytes);
    EXPECT_TRUE(absl::IsDataLoss(Safetensors::Open(Path()).status()));
  }
  WriteBytes(Path(), {1, 2, 3});
  EXPECT_TRUE(absl::IsDataLoss(Safetensors::Open(Path()).status()));
  EXPECT_TRUE(absl::IsNotFound(Safetensors::Open(directory_.File("absent")).status()));
}

TEST_F(SafetensorsTest, WrittenTensorsComeBack) {
  auto writer = Writer({{"b", {2, 3}}, {"a", {1}}, {"none", {0, 4}}});
  EXPECT_TRUE(writer->Write(0, 3, {4, 5, 6}).ok());
  EXPECT_TRUE(writer->Write(1, 0, {9}).ok());
  EXPECT_TRUE(writer->Write(0, 0, {1}).ok());
  EXPECT_TRUE(writer->Write(0, 1, {2, 3}).ok());
  EXPECT_FALSE(std::filesystem::exists(Path()));
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(FilesThere(), 1);
  const auto file = Safetensors::Open(Path());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*file->Floats("b"), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(file->Find("b")->shape, ElementsAre(2, 3));
  EXPECT_THAT(*file->Floats("a"), ElementsAre(9));
  EXPECT_THAT(*file->Floats("none"), SizeIs(0));
}

TEST_F(SafetensorsTest, UnfinishedFileNeverAppears) {
  {
    auto writer = Writer({{"a", {3}}});
    EXPECT_TRUE(writer->Write(0, 0, {1, 2}).ok());
    const absl::Status status = writer->Close();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(status.ToString(), HasSubstr("'a'"));
  }
  EXPECT_EQ(FilesThere(), 0);
}

TEST_F(SafetensorsTest, WritingTheSamePlaceTwiceIsAnError) {
  auto writer = Writer({{"a", {4}}});
  EXPECT_TRUE(writer->Write(0, 1, {1, 2}).ok());
  EXPECT_FALSE(writer->Write(0, 2, {1, 2}).ok());
  EXPECT_FALSE(writer->Write(0, 0, {1, 2}).ok());
}

TEST_F(SafetensorsTest, DirectoryThatIsNotThereIsSaid) {
  const auto writer = SafetensorsWriter::Create(directory_.File("no/t"), {});
  EXPECT_TRUE(absl::IsNotFound(writer.status())) << writer.status();
}

TEST_F(SafetensorsTest, EveryReferenceFileOpens) {
  SKIP_WITHOUT_SHARED();
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(SharedDir())) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto file = Safetensors::Open(entry.path());
    EXPECT_TRUE(file.ok()) << file.status();
    ++count;
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace stoker
