// Holds the decoding of embeddings on a device to the reference, bit for bit.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

class DeviceEmbedRows : public testing::TestWithParam<Dtype> {};

TEST_P(DeviceEmbedRows, GivesTheReferenceBitsOfTheRowsOfTokens) {
  constexpr int64_t kTokens = 6;
  const int64_t cols = InfoOf(GetParam()).block_values == 256  ? 768
                       : InfoOf(GetParam()).block_values == 32 ? 352
                                                               : 301;
  const int64_t stride = (cols + 15) / 16 * 16;
  const std::vector<RowPlace> places = {{.token = 5}, {.token = 0}, {.token = 5}, {.token = 3}};
  for (const WeightStyle style : kWeightStyles) {
    for (const size_t offset : {0, 2}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(style) << ", " << offset);
      Random random(3);
      std::vector<std::byte> weights(RowBytes(GetParam(), cols) * kTokens);
      FillWeights(GetParam(), style, weights.data(), weights.size(), random);
      DeviceCase memory;
      const EmbedRowsArgs args{
          .places = memory.Input(places),
          .table = {memory.Weights(weights, offset), GetParam(), kTokens, cols},
          .out = memory.Output<float>(places.size() * static_cast<size_t>(stride)),
          .stride = stride,
          .rows = static_cast<int64_t>(places.size())};
      ASSERT_TRUE(memory.Run(TwinOps().embed_rows, args));
      for (size_t r = 0; r < places.size(); ++r) {
        std::vector<float> expected(static_cast<size_t>(cols));
        reference::kOps.decode(GetParam(), args.table.row(places[r].token), cols, expected.data());
        const float* actual = args.out + static_cast<int64_t>(r) * stride;
        ASSERT_TRUE(SameBits({actual, expected.size()}, expected)) << "row " << r;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DeviceEmbedRows, testing::ValuesIn(kComputableDtypes),
                         [](const auto& row) { return std::string(NameOf(row.param)); });

}  // namespace
}  // namespace stoker
