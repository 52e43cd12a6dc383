// Holds the norm of rows on a device to the reference, bit for bit.
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"

namespace stoker {
namespace {

struct NormCase {
  RowsShape shape;
  ActivationStyle style = ActivationStyle::kNormal;
  bool has_delta = true;
  bool has_weight = true;
  bool has_out = true;
  bool is_kept = true;
  bool is_quantized = true;
  std::vector<int32_t> sources;  // of output rows; empty: none
};

void Add(const std::vector<float>& delta, std::vector<float>& sum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + delta[i];
}

std::vector<float> Part(const std::vector<float>& rows, int64_t row, const RowsShape& shape) {
  const auto first = rows.begin() + row * shape.stride;
  return {first, first + shape.cols};
}

class Norm {
 public:
  explicit Norm(const NormCase& c)
      : c_(c),
        residual_(MakeRows(c.style, c.shape)),
        delta_(MakeRows(ActivationStyle::kSpikes, c.shape)),
        weight_(MakeRows(ActivationStyle::kNormal, {1, c.shape.cols, c.shape.cols})) {
    rows_ = c.sources.empty() ? c.shape.rows : static_cast<int64_t>(c.sources.size());
  }

  std::vector<float>& residual() { return residual_; }

  void ExpectReferenceBits() {
    const auto [rows, cols, stride] = c_.shape;
    const size_t quantized_bytes =
        ActivationRowBytes(ActivationKind::kQ8x32, cols) * static_cast<size_t>(rows_);
    NormRowsArgs args{.rows = rows_, .cols = cols, .stride = stride, .epsilon = 1e-6f};
    args.residual = memory_.InOut(residual_);
    if (c_.has_delta) args.delta = memory_.Input(delta_);
    if (c_.has_weight) args.weight = memory_.Input(weight_);
    if (c_.has_out) args.out = memory_.Output<float>(static_cast<size_t>(rows_ * stride));
    if (c_.is_kept) args.kept = memory_.Output<float>(static_cast<size_t>(rows_ * cols));
    if (!c_.sources.empty()) args.sources = memory_.Input(c_.sources);
    if (c_.is_quantized) args.q8x32 = memory_.Output<std::byte>(quantized_bytes);
    if (c_.is_quantized && cols % 256 == 0) {
      args.q8x256 = memory_.Output<std::byte>(quantized_bytes);
    }
    ASSERT_TRUE(memory_.Run(TwinOps().norm_rows, args));
    for (int64_t r = 0; r < rows_; ++r) ExpectRow(args, r);
  }

 private:
  void ExpectRow(const NormRowsArgs& args, int64_t r) {
    const auto [rows, cols, stride] = c_.shape;
    const int64_t source = c_.sources.empty() ? r : c_.sources[static_cast<size_t>(r)];
    std::vector<float> sum = Part(residual_, source, c_.shape);
    if (c_.has_delta) Add(Part(delta_, source, c_.shape), sum);
    const auto row = [width = static_cast<size_t>(cols)](const float* data, int64_t at) {
      return std::span<const float>(data + at, width);
    };
    EXPECT_TRUE(SameBits(row(args.residual, r * stride),
                         c_.sources.empty() ? sum : Part(residual_, r, c_.shape)));
    if (args.kept != nullptr) {
      EXPECT_TRUE(SameBits(row(args.kept, r * cols), sum));
    }
    std::vector<float> out(static_cast<size_t>(cols));
    reference::kOps.rms_norm(sum.data(), c_.has_weight ? weight_.data() : nullptr, cols, 1e-6f,
                             out.data());
    if (args.out != nullptr) {
      EXPECT_TRUE(SameBits(row(args.out, r * stride), out)) << r;
    }
    ExpectQuantized(ActivationKind::kQ8x32, args.q8x32, r, out);
    ExpectQuantized(ActivationKind::kQ8x256, args.q8x256, r, out);
  }

  void ExpectQuantized(ActivationKind kind, const std::byte* rows, int64_t r,
                       const std::vector<float>& out) {
    if (rows == nullptr) return;
    const auto expected = QuantizedRows(kind, out, {1, c_.shape.cols, c_.shape.cols});
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                           rows + r * static_cast<int64_t>(expected.size())))
        << "quantized row " << r;
  }

  NormCase c_;
  std::vector<float> residual_;
  std::vector<float> delta_;
  std::vector<float> weight_;
  int64_t rows_;
  DeviceCase memory_;
};

TEST(DeviceNormRows, GivesTheReferenceBitsOfEveryStyle) {
  for (const ActivationStyle style : kActivationStyles) {
    for (const int64_t rows : {1, 5}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(style) << ", " << rows);
      Norm({.shape = {rows, 768, 784}, .style = style}).ExpectReferenceBits();
    }
  }
}

TEST(DeviceNormRows, GivesTheReferenceBitsOfAnyWidth) {
  for (const int64_t cols : {1, 7, 31, 32, 33, 100, 255, 257, 2880}) {
    SCOPED_TRACE(cols);
    Norm({.shape = {2, cols, (cols + 15) / 16 * 16}, .is_quantized = cols % 32 == 0})
        .ExpectReferenceBits();
  }
  Norm({.shape = {1, kNormColsMax, kNormColsMax}}).ExpectReferenceBits();
}

TEST(DeviceNormRows, DoesOnlyWhatIsWanted) {
  const RowsShape shape = {3, 512, 512};
  Norm({.shape = shape, .has_delta = false}).ExpectReferenceBits();
  Norm({.shape = shape, .has_weight = false}).ExpectReferenceBits();
  Norm({.shape = shape, .has_out = false}).ExpectReferenceBits();
  Norm({.shape = shape, .is_kept = false}).ExpectReferenceBits();
  Norm({.shape = shape, .is_quantized = false}).ExpectReferenceBits();
}

TEST(DeviceNormRows, TakesTheRowsThatSourcesNameAndLeavesThemAlone) {
  Norm({.shape = {4, 256, 272}, .sources = {2, 0}}).ExpectReferenceBits();
  Norm({.shape = {4, 256, 272}, .has_delta = false, .sources = {3, 3, 1}}).ExpectReferenceBits();
}

TEST(DeviceNormRows, ARowWithoutANumberQuantizesToNaNAndHurtsNoPadding) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Norm norm({.shape = {2, 288, 288}});
    norm.residual()[3] = bad;
    norm.ExpectReferenceBits();
  }
}

}  // namespace
}  // namespace stoker
