// What makes two models the same, and what does not.
#include "runtime/model_identity.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/gguf_writer.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

GgufWriter Model() {
  GgufWriter writer;
  writer.Set("general.architecture", "example").Set("general.name", "one");
  writer.Set("example.block_count", uint32_t{2}).Set("example.scale", 0.5);
  writer.AddZeros("blk.0.ffn", Dtype::kQ8_0, {64, 8}).AddZeros("blk.1.ffn", Dtype::kQ8_0, {64, 8});
  return writer;
}

uint64_t IdentityOf(const GgufWriter& writer) {
  return IdentifyModel(GgufModel::Parse(writer.Build(), "model").value());
}

TEST(IdentifyModel, SameFileUnderAnotherNameIsTheSame) {
  const TemporaryDirectory folder;
  Model().WriteTo(folder.File("a.gguf"));
  Model().WriteTo(folder.File("b.gguf"));
  const uint64_t a = IdentifyModel(GgufModel::Open(folder.File("a.gguf")).value());
  EXPECT_EQ(a, IdentifyModel(GgufModel::Open(folder.File("b.gguf")).value()));
  EXPECT_NE(a, 0u);
}

TEST(IdentifyModel, EachDifferenceOfHeaderOrSizeIsAnotherModel) {
  const std::vector<std::function<void(GgufWriter&)>> differences = {
      [](GgufWriter& w) { w.Set("general.author", "someone"); },
      [](GgufWriter& w) { w.Set("example.block_count", uint32_t{3}); },
      [](GgufWriter& w) { w.Set("example.scale", 0.25); },
      [](GgufWriter& w) {
        w.AddZeros("blk.2.ffn", Dtype::kQ8_0, {64, 8});
      },
  };
  const uint64_t identity = IdentityOf(Model());
  for (size_t i = 0; i < differences.size(); ++i) {
    GgufWriter other;
    other.Set("general.architecture", "example").Set("general.name", "one");
    if (i != 1) other.Set("example.block_count", uint32_t{2});
    if (i != 2) other.Set("example.scale", 0.5);
    differences[i](other);
    other.AddZeros("blk.0.ffn", Dtype::kQ8_0, {64, 8}).AddZeros("blk.1.ffn", Dtype::kQ8_0, {64, 8});
    EXPECT_NE(IdentityOf(other), identity) << "difference " << i;
  }
}

TEST(IdentifyModel, FormatAndShapeOfATensorCount) {
  GgufWriter wide, square, half;
  wide.AddZeros("t", Dtype::kF32, {64, 4});
  square.AddZeros("t", Dtype::kF32, {16, 16});
  half.AddZeros("t", Dtype::kF16, {64, 8});  // the same bytes
  EXPECT_NE(IdentityOf(wide), IdentityOf(square));
  EXPECT_NE(IdentityOf(wide), IdentityOf(half));
}

TEST(IdentifyWeights, TellsModelsOfOneHeaderApart) {
  const TemporaryDirectory folder;
  const auto identity_of = [&](const char* name, size_t flipped_from_end) {
    std::vector<uint8_t> bytes = Model().Build();
    if (flipped_from_end > 0) bytes[bytes.size() - flipped_from_end] ^= 1;
    std::ofstream(folder.File(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    const GgufModel gguf = GgufModel::Open(folder.File(name)).value();
    return std::pair(IdentifyModel(gguf), IdentifyWeights(gguf).value());
  };
  const auto plain = identity_of("a.gguf", 0), moved = identity_of("b.gguf", 0);
  const auto tuned = identity_of("c.gguf", 100);
  EXPECT_EQ(plain, moved);
  EXPECT_EQ(plain.first, tuned.first);
  EXPECT_NE(plain.second, tuned.second);
}

TEST(FormatIdentity, IsSixteenDigits) { EXPECT_EQ(FormatIdentity(0xabc), "0000000000000abc"); }

}  // namespace
}  // namespace stoker
