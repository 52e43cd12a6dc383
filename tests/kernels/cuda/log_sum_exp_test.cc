// What the softmax of each row divides by: the reference's bits, row by row.
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void ExpectReferenceBits(const std::vector<float>& x, const RowsShape& shape) {
  SCOPED_TRACE(testing::Message() << shape.rows << " rows of " << shape.cols);
  DeviceCase memory;
  const LogSumExpArgs args = {.x = memory.Input(x),
                              .rows = shape.rows,
                              .cols = shape.cols,
                              .stride = shape.stride,
                              .out = memory.Output<ExpSum>(static_cast<size_t>(shape.rows))};
  ASSERT_TRUE(memory.Run(TwinOps().log_sum_exp, args));
  for (int64_t r = 0; r < shape.rows; ++r) {
    const ExpSum expected = reference::LogSumExp(x.data() + r * shape.stride, shape.cols);
    EXPECT_TRUE(SameBits(std::vector{args.out[r].max, args.out[r].sum},
                         std::vector{expected.max, expected.sum}))
        << "row " << r;
  }
}

TEST(DeviceLogSumExp, GivesReferenceBitsAtAnyWidth) {
  for (const int64_t cols : {1, 31, 32, 33, 1000, 1024, 1025, 2100, 32768, 32769, 35000}) {
    const RowsShape shape = {.rows = cols < 3000 ? 3 : 1, .cols = cols, .stride = cols + 16};
    for (const ActivationStyle style :
         {ActivationStyle::kNormal, ActivationStyle::kSpikes, ActivationStyle::kSame}) {
      ExpectReferenceBits(MakeRows(style, shape), shape);
    }
  }
}

TEST(DeviceLogSumExp, GivesReferenceBitsBesideInfinitiesAndNans) {
  const RowsShape shape = {.rows = 1, .cols = 1500, .stride = 1504};
  for (const float odd : {-kInfinity, kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x = MakeRows(ActivationStyle::kNormal, shape);
    x[1200] = odd;
    ExpectReferenceBits(x, shape);
    ExpectReferenceBits(std::vector<float>(1504, odd), shape);
  }
  ExpectReferenceBits(std::vector<float>(1504, -0.0f), shape);
}

TEST(DeviceLogSumExp, OfNoRowsIsNothingToDo) {
  EXPECT_EQ(TwinOps().log_sum_exp.run(std::make_unique<LogSumExpArgs>().get(), nullptr), 0);
}

}  // namespace
}  // namespace stoker
