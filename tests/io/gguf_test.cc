// Sound GGUF files: every type, every layout, single and split.
#include "io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "tests/testing/gguf_writer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<GgufModel> Parse(const GgufWriter& writer) {
  return GgufModel::Parse(writer.Build(), "test.gguf");
}

template <typename T>
const T& Get(const GgufModel& model, std::string_view key) {
  return std::get<T>(*model.Find(key));
}

TEST(GgufModel, ReadsEveryScalarType) {
  GgufWriter writer;
  writer.Set("u8", uint8_t{200}).Set("i8", int8_t{-100}).Set("u16", uint16_t{60'000});
  writer.Set("i16", int16_t{-30'000}).Set("u32", uint32_t{4'000'000'000}).Set("i32", int32_t{-5});
  writer.Set("u64", std::numeric_limits<uint64_t>::max()).Set("i64", int64_t{-1} << 62);
  writer.Set("f32", 1.5f).Set("f64", 0.1).Set("yes", true).Set("no", false).Set("text", "a\nb");
  const auto model = Parse(writer);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(Get<uint64_t>(*model, "u8"), 200);
  EXPECT_EQ(Get<int64_t>(*model, "i8"), -100);
  EXPECT_EQ(Get<uint64_t>(*model, "u16"), 60'000);
  EXPECT_EQ(Get<int64_t>(*model, "i16"), -30'000);
  EXPECT_EQ(Get<uint64_t>(*model, "u32"), 4'000'000'000);
  EXPECT_EQ(Get<int64_t>(*model, "i32"), -5);
  EXPECT_EQ(Get<uint64_t>(*model, "u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(Get<int64_t>(*model, "i64"), int64_t{-1} << 62);
  EXPECT_EQ(Get<double>(*model, "f32"), 1.5);
  EXPECT_EQ(Get<double>(*model, "f64"), 0.1);
  EXPECT_EQ(Get<bool>(*model, "yes"), true);
  EXPECT_EQ(Get<bool>(*model, "no"), false);
  EXPECT_EQ(Get<std::string>(*model, "text"), "a\nb");
  EXPECT_EQ(model->keys().front(), "u8");
  EXPECT_EQ(model->keys().back(), "text");
}

TEST(GgufModel, ReadsEveryArrayType) {
  GgufWriter writer;
  writer.SetArray<uint8_t>("u8", {1, 255}).SetArray<int8_t>("i8", {-1, 127});
  writer.SetArray<uint16_t>("u16", {65'535}).SetArray<int16_t>("i16", {-32'768});
  writer.SetArray<uint32_t>("u32", {4'294'967'295}).SetArray<int32_t>("i32", {-2, 3});
  writer.SetArray<uint64_t>("u64", {1, 2}).SetArray<int64_t>("i64", {-7});
  writer.SetArray<float>("f32", {0.5f}).SetArray<double>("f64", {0.1, 0.2});
  writer.SetArray<bool>("bool", {true, false, true});
  writer.SetArray<std::string>("text", {"", "x", "yz"}).SetArray<int32_t>("none", {});
  const auto model = Parse(writer);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(Get<std::vector<uint64_t>>(*model, "u8"), ElementsAre(1, 255));
  EXPECT_THAT(Get<std::vector<int64_t>>(*model, "i8"), ElementsAre(-1, 127));
  EXPECT_THAT(Get<std::vector<uint64_t>>(*model, "u16"), ElementsAre(65'535));
  EXPECT_THAT(Get<std::vector<int64_t>>(*model, "i16"), ElementsAre(-32'768));
  EXPECT_THAT(Get<std::vector<uint64_t>>(*model, "u32"), ElementsAre(4'294'967'295));
  EXPECT_THAT(Get<std::vector<int64_t>>(*model, "i32"), ElementsAre(-2, 3));
  EXPECT_THAT(Get<std::vector<uint64_t>>(*model, "u64"), ElementsAre(1, 2));
  EXPECT_THAT(Get<std::vector<int64_t>>(*model, "i64"), ElementsAre(-7));
  EXPECT_THAT(Get<std::vector<double>>(*model, "f32"), ElementsAre(0.5));
  EXPECT_THAT(Get<std::vector<double>>(*model, "f64"), ElementsAre(0.1, 0.2));
  EXPECT_THAT(Get<std::vector<bool>>(*model, "bool"), ElementsAre(true, false, true));
  EXPECT_THAT(*model->Strings("text"), ElementsAre("", "x", "yz"));
  EXPECT_TRUE(Get<std::vector<int64_t>>(*model, "none").empty());
}

TEST(GgufModel, FindsTensorsWhereTheyLie) {
  for (const uint32_t version : {2, 3}) {
    GgufWriter writer;
    writer.header.version = version;
    writer.AddTensor("a", {3}, {1, 2, 3}).AddZeros("b", Dtype::kQ4_K, {512, 3, 2});
    writer.AddTensor("c", {1, 1, 1, 2}, {8, 9});
    const std::vector<uint8_t> bytes = writer.Build();
    const auto model = GgufModel::Parse(bytes, "test.gguf");
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_EQ(model->tensors().size(), 3);
    const GgufTensor* b = model->FindTensor("b");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->dtype, Dtype::kQ4_K);
    EXPECT_EQ(b->dim_count, 3);
    EXPECT_THAT(b->dims, ElementsAre(512, 3, 2, 1));
    EXPECT_EQ(b->bytes, 2 * 144 * 6);
    EXPECT_EQ(b->offset % 32, 0);
    const GgufTensor* c = model->FindTensor("c");
    ASSERT_NE(c, nullptr);
    float value = 0;
    std::memcpy(&value, bytes.data() + c->offset + 4, 4);
    EXPECT_EQ(value, 9);
    EXPECT_EQ(model->FindTensor("d"), nullptr);
  }
}

TEST(GgufModel, AlignmentOfTheFileIsHonoured) {
  GgufWriter writer;
  writer.SetAlignment(4096).AddTensor("a", {1}, {1}).AddTensor("b", {1}, {2});
  const auto model = Parse(writer);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->FindTensor("a")->offset, 4096);
  EXPECT_EQ(model->FindTensor("b")->offset, 8192);
}

TEST(GgufModel, OrderAndGapsOfTensorDataAreFree) {
  GgufWriter writer;
  writer.AddRaw({.name = "late", .type = 0, .dims = {8}, .data = {}, .offset = 64});
  writer.AddRaw({.name = "early", .type = 0, .dims = {8}, .data = {}, .offset = 0});
  std::vector<uint8_t> bytes = writer.Build();
  bytes.resize(bytes.size() + 96);
  const auto model = GgufModel::Parse(bytes, "test.gguf");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->FindTensor("late")->offset - model->FindTensor("early")->offset, 64);
}

TEST(GgufModel, HeadLargerThanEveryChunkIsReadWhole) {
  std::vector<std::string> tokens;
  for (int i = 0; i < 150'000; ++i) tokens.push_back(std::string(1 + i % 90, 'a' + i % 26));
  const TemporaryDirectory directory;
  GgufWriter writer;
  writer.SetArray("tokens", tokens).Set("long", std::string(9 << 20, 'x'));
  writer.SetArray("numbers", std::vector<float>(1'000'000, 0.5f)).AddTensor("a", {1}, {1});
  writer.WriteTo(directory.File("m.gguf"));
  const auto model = GgufModel::Open(directory.File("m.gguf"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(*model->Strings("tokens"), tokens);
  EXPECT_EQ(model->String("long")->size(), 9 << 20);
  EXPECT_EQ(model->Floats("numbers")->size(), 1'000'000);
  EXPECT_EQ(model->file_bytes()[0], std::filesystem::file_size(directory.File("m.gguf")));
}

// ---- typed access

class GgufAccess : public ::testing::Test {
 protected:
  GgufAccess() {
    GgufWriter writer;
    writer.Set("small", uint8_t{7}).Set("negative", int32_t{-3}).Set("text", "hello");
    writer.Set("huge", std::numeric_limits<uint64_t>::max()).Set("half", 0.5f).Set("yes", true);
    writer.Set("nan", std::nanf("")).SetArray<uint16_t>("list", {4, 5});
    writer.SetArray<uint64_t>("wide", {std::numeric_limits<uint64_t>::max()});
    writer.SetArray<float>("floats", {1.5f}).SetArray<std::string>("words", {"a"});
    model_ = *Parse(writer);
  }
  GgufModel model_;
};

TEST_F(GgufAccess, IntegersOfAnyWidthAreIntegers) {
  EXPECT_EQ(*model_.Int("small", 0, 10), 7);
  EXPECT_EQ(*model_.Int("negative", -5, 5), -3);
  EXPECT_EQ(*model_.Int("absent", 42, 0, 5), 42);
}

TEST_F(GgufAccess, IntegerOutOfRangeNamesKeyValueAndRange) {
  const absl::Status status = model_.Int("small", 0, 6).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.ToString(), HasSubstr("'small' is 7, outside of 0 to 6"));
  EXPECT_THAT(model_.Int("huge", 0, std::numeric_limits<int64_t>::max()).status().ToString(),
              HasSubstr("18446744073709551615"));
}

TEST_F(GgufAccess, AbsentRequiredKeyIsNamed) {
  EXPECT_THAT(model_.Int("gone", 0, 6).status().ToString(), HasSubstr("lacks the key 'gone'"));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.String("gone").status()));
}

TEST_F(GgufAccess, AnotherTypeIsAnError) {
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Int("text", 0, 6).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Int("half", 0, 6).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Float("text", 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Bool("small", false).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.String("small", "x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Ints("words").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Floats("words").status()));
  EXPECT_EQ(model_.Strings("list"), nullptr);
  EXPECT_EQ(model_.Strings("absent"), nullptr);
}

TEST_F(GgufAccess, FloatsMustBeFinite) {
  EXPECT_EQ(*model_.Float("half", 0), 0.5);
  EXPECT_EQ(*model_.Float("small", 0), 7);
  EXPECT_EQ(*model_.Float("absent", 0.25), 0.25);
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Float("nan", 0).status()));
}

TEST_F(GgufAccess, ListsComeInAnyWidthAndScalarsAreListsOfOne) {
  EXPECT_THAT(*model_.Ints("list"), ElementsAre(4, 5));
  EXPECT_THAT(*model_.Ints("negative"), ElementsAre(-3));
  EXPECT_TRUE(model_.Ints("absent")->empty());
  EXPECT_TRUE(absl::IsInvalidArgument(model_.Ints("wide").status()));
  EXPECT_THAT(*model_.Floats("floats"), ElementsAre(1.5));
  EXPECT_THAT(*model_.Floats("list"), ElementsAre(4, 5));
  EXPECT_THAT(*model_.Floats("half"), ElementsAre(0.5));
}

TEST_F(GgufAccess, BoolsAndTextHaveFallbacks) {
  EXPECT_TRUE(*model_.Bool("yes", false));
  EXPECT_TRUE(*model_.Bool("absent", true));
  EXPECT_EQ(*model_.String("text"), "hello");
  EXPECT_EQ(*model_.String("absent", "other"), "other");
}

// ---- files

class GgufSplit : public ::testing::Test {
 protected:
  GgufSplit() {
    writer_.Set("general.architecture", "test");
    for (const char* name : {"a", "b", "c", "d", "e"}) writer_.AddTensor(name, {2}, {1, 2});
  }
  absl::Status OpenStatus(const std::string& path) { return GgufModel::Open(path).status(); }

  TemporaryDirectory directory_;
  GgufWriter writer_;
};

TEST_F(GgufSplit, AnyPartOpensTheWholeSet) {
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  for (const std::string& path : paths) {
    const auto model = GgufModel::Open(path);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_THAT(model->paths(), ::testing::ElementsAreArray(paths));
    EXPECT_EQ(*model->String("general.architecture"), "test");
    EXPECT_EQ(model->tensors().size(), 5);
    EXPECT_EQ(model->FindTensor("a")->file, 1);
    EXPECT_EQ(model->FindTensor("b")->file, 2);
  }
}

TEST_F(GgufSplit, MissingPartIsNamed) {
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  std::filesystem::remove(paths[1]);
  const absl::Status status = OpenStatus(paths[0]);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("m-00002-of-00003.gguf: part 2 of 3"));
}

TEST_F(GgufSplit, TruncatedPartIsDataLoss) {
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  std::filesystem::resize_file(paths[2], std::filesystem::file_size(paths[2]) - 1);
  const absl::Status status = OpenStatus(paths[0]);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("m-00003-of-00003.gguf: is truncated"));
}

TEST_F(GgufSplit, RenamedPartIsRefused) {
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  std::filesystem::rename(paths[0], directory_.File("model.gguf"));
  const absl::Status status = OpenStatus(directory_.File("model.gguf"));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("00001-of-00003.gguf"));
}

TEST_F(GgufSplit, PartInAnothersPlaceIsDataLoss) {
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  std::filesystem::copy_file(paths[1], paths[2], std::filesystem::copy_options::overwrite_existing);
  const absl::Status status = OpenStatus(paths[0]);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("part 2 of 3"));
}

TEST_F(GgufSplit, TensorInTwoPartsIsDataLoss) {
  writer_.AddTensor("a", {2}, {1, 2});
  const auto paths = writer_.WriteSplit(directory_.File("m"), 3);
  const absl::Status status = OpenStatus(paths[0]);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("'a'"));
}

TEST_F(GgufSplit, WrongTensorTotalIsDataLoss) {
  GgufWriter writer;
  writer.Set("split.tensors.count", int32_t{2}).AddTensor("a", {1}, {1});
  const absl::Status status = Parse(writer).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("should have 2 tensors"));
}

TEST_F(GgufSplit, CountThatIsNoCountIsDataLoss) {
  GgufWriter writer;
  writer.Set("split.count", "three");
  EXPECT_TRUE(absl::IsDataLoss(Parse(writer).status()));
  GgufWriter negative;
  negative.Set("split.no", int32_t{-1});
  EXPECT_TRUE(absl::IsDataLoss(Parse(negative).status()));
}

TEST_F(GgufSplit, HugePartCountDoesNotHang) {
  GgufWriter writer;
  writer.Set("split.count", std::numeric_limits<uint64_t>::max());
  writer.WriteTo(directory_.File("m-00001-of-00002.gguf"));
  EXPECT_FALSE(OpenStatus(directory_.File("m-00001-of-00002.gguf")).ok());
}

TEST(GgufModel, MissingFileIsNotFoundAndDirectoryInvalid) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(absl::IsNotFound(GgufModel::Open(directory.File("absent.gguf")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(GgufModel::Open(directory.path()).status()));
}

TEST(GgufModel, ShippedModelOpens) {
  const auto model = GgufModel::Open(SourceDir() + "/models/moe-27m.q4_k.gguf");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(*model->String("general.architecture"), "deepseek2");
  EXPECT_EQ(model->tensors().size(), 148);
}

TEST(GgufModel, EveryReferenceModelOpens) {
  SKIP_WITHOUT_SHARED();
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(SharedDir())) {
    if (entry.path().extension() != ".gguf") continue;
    const auto model = GgufModel::Open(entry.path());
    EXPECT_TRUE(model.ok()) << model.status();
    ++count;
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace stoker
