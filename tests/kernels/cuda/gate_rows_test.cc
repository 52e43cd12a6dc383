// Holds the gating of rows on a device to the reference, bit for bit.
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

struct GateCase {
  RowsShape shape;
  std::vector<float> gate;
  std::vector<float> up;
  bool in_place = false;
  bool is_quantized = true;
};

void ExpectReferenceBits(const GateCase& c) {
  const auto [rows, cols, stride] = c.shape;
  DeviceCase memory;
  GateRowsArgs args{.rows = rows, .cols = cols, .stride = stride};
  if (c.in_place) {
    args.y = memory.InOut(c.gate);
    args.gate = args.y;
  } else {
    args.gate = memory.Input(c.gate);
    args.y = memory.Output<float>(c.gate.size());
  }
  args.up = memory.Input(c.up);
  const size_t bytes = ActivationRowBytes(ActivationKind::kQ8x32, cols) * static_cast<size_t>(rows);
  if (c.is_quantized) args.q8x32 = memory.Output<std::byte>(bytes);
  if (c.is_quantized && cols % 256 == 0) args.q8x256 = memory.Output<std::byte>(bytes);
  ASSERT_TRUE(memory.Run(TwinOps().gate_rows, args));

  std::vector<float> expected(c.gate.size());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * stride;
    reference::kOps.silu_multiply(c.gate.data() + at, c.up.data() + at, cols, expected.data() + at);
    const auto width = static_cast<size_t>(cols);
    ASSERT_TRUE(SameBits({args.y + at, width}, {expected.data() + at, width})) << "row " << r;
  }
  const auto expect = [&](ActivationKind kind, const std::byte* actual) {
    if (actual == nullptr) return;
    const auto quantized = QuantizedRows(kind, expected, c.shape);
    EXPECT_TRUE(std::equal(quantized.begin(), quantized.end(), actual));
  };
  expect(ActivationKind::kQ8x32, args.q8x32);
  expect(ActivationKind::kQ8x256, args.q8x256);
}

GateCase MakeCase(const RowsShape& shape, ActivationStyle style = ActivationStyle::kNormal) {
  return {.shape = shape,
          .gate = MakeRows(style, shape),
          .up = MakeRows(ActivationStyle::kSpikes, shape)};
}

TEST(DeviceGateRows, GivesTheReferenceBitsOfEveryStyle) {
  for (const ActivationStyle style : kActivationStyles) {
    SCOPED_TRACE(static_cast<int>(style));
    ExpectReferenceBits(MakeCase({5, 512, 528}, style));
  }
}

TEST(DeviceGateRows, GivesTheReferenceBitsOfAnyWidth) {
  for (const int64_t cols : {1, 9, 32, 96, 250, 1504}) {
    SCOPED_TRACE(cols);
    GateCase c = MakeCase({3, cols, (cols + 15) / 16 * 16});
    c.is_quantized = cols % 32 == 0;
    ExpectReferenceBits(c);
  }
}

TEST(DeviceGateRows, MayWriteOverTheGate) {
  GateCase c = MakeCase({9, 768, 768});
  c.in_place = true;
  ExpectReferenceBits(c);
}

TEST(DeviceGateRows, KeepsExtremesAndWhatIsNotANumber) {
  GateCase c = MakeCase({1, 256, 256});
  const float extremes[] = {0.0f,
                            -0.0f,
                            1e30f,
                            -1e30f,
                            88.7f,
                            -88.7f,
                            -103.9f,
                            -104.1f,
                            1e-40f,
                            -1e-40f,
                            std::numeric_limits<float>::infinity()};
  for (size_t i = 0; i < std::size(extremes); ++i) c.gate[40 + i] = extremes[i];
  ExpectReferenceBits(c);
  c.gate[0] = std::numeric_limits<float>::quiet_NaN();
  ExpectReferenceBits(c);
}

}  // namespace
}  // namespace stoker
