// Holds the quantization of a device to the reference, byte for byte.
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

struct QuantizedForms {
  bool q8x32;
  bool q8x256;
};

void ExpectReferenceBytes(const std::vector<float>& x, int64_t rows, int64_t cols, int64_t stride,
                          QuantizedForms forms) {
  DeviceCase memory;
  QuantizeRowsArgs args{.x = memory.Input(x), .rows = rows, .cols = cols, .stride = stride};
  const size_t bytes = ActivationRowBytes(ActivationKind::kQ8x32, cols) * static_cast<size_t>(rows);
  if (forms.q8x32) args.q8x32 = memory.Output<std::byte>(bytes);
  if (forms.q8x256) args.q8x256 = memory.Output<std::byte>(bytes);
  ASSERT_TRUE(memory.Run(TwinOps().quantize_rows, args));
  const auto expect = [&](ActivationKind kind, const std::byte* actual) {
    if (actual == nullptr) return;
    const auto expected = QuantizedRows(kind, x, {rows, cols, stride});
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), actual));
  };
  expect(ActivationKind::kQ8x32, args.q8x32);
  expect(ActivationKind::kQ8x256, args.q8x256);
}

TEST(DeviceQuantizeRows, GivesTheReferenceBytesOfEveryStyle) {
  for (const ActivationStyle style : kActivationStyles) {
    for (const int64_t rows : {1, 9}) {
      for (const int64_t cols : {256, 768}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(style) << ", " << rows << "x" << cols);
        const int64_t stride = cols + 16;
        ExpectReferenceBytes(MakeRows(style, {rows, cols, stride}), rows, cols, stride,
                             {true, true});
      }
    }
  }
}

TEST(DeviceQuantizeRows, FillsTheGroupPastARowThatEndsInsideItWithZeros) {
  for (const int64_t cols : {32, 64, 96, 288, 480}) {
    SCOPED_TRACE(cols);
    ExpectReferenceBytes(MakeRows(ActivationStyle::kNormal, {3, cols, 512}), 3, cols, 512,
                         {true, false});
  }
}

TEST(DeviceQuantizeRows, MakesOnlyTheFormsThatAreWanted) {
  const auto x = MakeRows(ActivationStyle::kSpikes, {2, 256, 256});
  ExpectReferenceBytes(x, 2, 256, 256, {true, false});
  ExpectReferenceBytes(x, 2, 256, 256, {false, true});
}

TEST(DeviceQuantizeRows, MarksABlockThatHoldsAnInfinityOrNaN) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    auto x = MakeRows(ActivationStyle::kNormal, {2, 512, 512});
    x[37] = bad;
    x[1023] = bad;
    ExpectReferenceBytes(x, 2, 512, 512, {true, true});
  }
}

TEST(DeviceQuantizeRows, RoundsTiesToEven) {
  std::vector<float> x(256);
  for (int i = 0; i < 256; ++i) x[static_cast<size_t>(i)] = 0.5f * static_cast<float>(i - 127);
  x[255] = 127;  // so that the scale is 1
  ExpectReferenceBytes(x, 1, 256, 256, {true, true});
}

}  // namespace
}  // namespace stoker
