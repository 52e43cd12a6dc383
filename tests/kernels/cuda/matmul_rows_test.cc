// Holds the products of a device to the reference, bit for bit, for every format and both ways of
// computing them.
#include <cstring>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

struct ProductCase {
  Dtype dtype;
  int64_t rows;
  size_t offset = 0;  // of the weights from a 64-byte border
};

struct MatmulCase {
  std::vector<ProductCase> products;
  int64_t rows;
  int64_t cols;
  WeightStyle weights = WeightStyle::kRandom;
  ActivationStyle activations = ActivationStyle::kNormal;
};

std::vector<std::byte> MakeWeights(const ProductCase& product, const MatmulCase& c,
                                   Random& random) {
  std::vector<std::byte> weights(RowBytes(product.dtype, c.cols) *
                                 static_cast<size_t>(product.rows));
  FillWeights(product.dtype, c.weights, weights.data(), weights.size(), random);
  return weights;
}

// Activation rows of one kind, back to back.
std::vector<std::byte> Gather(const ActivationRows& rows, int64_t count, size_t row_bytes) {
  std::vector<std::byte> bytes;
  for (int64_t r = 0; r < count; ++r) {
    bytes.insert(bytes.end(), rows.rows()[r], rows.rows()[r] + row_bytes);
  }
  return bytes;
}

class Matmul {
 public:
  explicit Matmul(const MatmulCase& c)
      : c_(c), random_(static_cast<uint64_t>(c.rows * 31 + c.cols)) {
    for (int64_t r = 0; r < c.rows; ++r) {
      x_.push_back(MakeActivations(c.activations, c.cols, random_));
    }
  }

  void ExpectReferenceBits() {
    MatmulRowsArgs args{.rows = c_.rows, .cols = c_.cols};
    SetActivations(args.x);
    std::vector<std::vector<std::byte>> weights;
    for (const ProductCase& product : c_.products) {
      weights.push_back(MakeWeights(product, c_, random_));
      args.products[args.product_count++] = {
          .w = {memory_.Weights(weights.back(), product.offset), product.dtype, product.rows,
                c_.cols},
          .out = memory_.Output<float>(static_cast<size_t>(c_.rows * StrideOf(product))),
          .out_stride = StrideOf(product)};
    }
    ASSERT_TRUE(memory_.Run(TwinOps().matmul_rows, args));
    for (int p = 0; p < args.product_count; ++p) ExpectProduct(args.products[p]);
  }

 private:
  static int64_t StrideOf(const ProductCase& product) { return (product.rows + 15) / 16 * 16; }

  void SetActivations(DeviceActivations& x) {
    const auto gathered = [&](ActivationKind kind) {
      const ActivationRows rows(reference::kOps, kind, c_.cols, x_);
      return memory_.Input(Gather(rows, c_.rows, ActivationRowBytes(kind, c_.cols)));
    };
    x.stride = (c_.cols + 15) / 16 * 16;
    std::vector<float> floats(static_cast<size_t>(x.stride * c_.rows));
    for (int64_t r = 0; r < c_.rows; ++r) {
      std::copy(x_[r].begin(), x_[r].end(), floats.begin() + r * x.stride);
    }
    x.x = memory_.Input(floats);
    if (c_.cols % 32 == 0) x.q8x32 = const_cast<std::byte*>(gathered(ActivationKind::kQ8x32));
    if (c_.cols % 256 == 0) x.q8x256 = const_cast<std::byte*>(gathered(ActivationKind::kQ8x256));
  }

  void ExpectProduct(const MatmulRowsArgs::Product& product) {
    const ActivationRows rows(reference::kOps, ActivationKindOf(product.w.dtype), c_.cols, x_);
    std::vector<std::vector<float>> expected(static_cast<size_t>(c_.rows));
    std::vector<float*> out;
    for (auto& row : expected) {
      row.resize(static_cast<size_t>(product.w.rows));
      out.push_back(row.data());
    }
    reference::kOps.matmul({.w = product.w,
                            .row_end = product.w.rows,
                            .count = c_.rows,
                            .x = rows.rows(),
                            .out = out.data()});
    for (int64_t r = 0; r < c_.rows; ++r) {
      const auto actual = std::span<const float>(product.out + r * product.out_stride,
                                                 static_cast<size_t>(product.w.rows));
      ASSERT_TRUE(SameBits(actual, expected[static_cast<size_t>(r)])) << "activation row " << r;
    }
  }

  MatmulCase c_;
  Random random_;
  std::vector<std::vector<float>> x_;
  DeviceCase memory_;
};

int64_t BlockOf(Dtype dtype) { return InfoOf(dtype).block_values; }

class DeviceMatmulRows : public testing::TestWithParam<Dtype> {};

TEST_P(DeviceMatmulRows, GivesTheReferenceBitsForAnyNumberOfRows) {
  const int64_t cols = BlockOf(GetParam()) == 256 ? 768 : BlockOf(GetParam()) == 32 ? 352 : 331;
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33}) {
    SCOPED_TRACE(rows);
    Matmul({.products = {{GetParam(), 67}}, .rows = rows, .cols = cols}).ExpectReferenceBits();
  }
}

// Tiles are 64 rows of weights by 32 or 64 activation rows, in parts of 16.
TEST_P(DeviceMatmulRows, EndsTilesAnywhere) {
  const int64_t cols = BlockOf(GetParam()) == 256 ? 512 : BlockOf(GetParam()) == 32 ? 288 : 17;
  const std::pair<int64_t, int64_t> sizes[] = {{64, 64}, {1, 65},  {65, 31}, {63, 32},
                                               {16, 48}, {17, 49}, {130, 9}, {3, 129}};
  for (const auto& [weight_rows, rows] : sizes) {
    SCOPED_TRACE(testing::Message() << weight_rows << " rows of weights, " << rows << " rows");
    Matmul({.products = {{GetParam(), weight_rows}}, .rows = rows, .cols = cols})
        .ExpectReferenceBits();
  }
}

TEST_P(DeviceMatmulRows, GivesTheReferenceBitsForAnyNumberOfBlocks) {
  for (int64_t blocks = 1; blocks <= 19; blocks += blocks < 10 ? 1 : 3) {
    for (const int64_t rows : {1, 10}) {
      SCOPED_TRACE(testing::Message() << blocks << " blocks, " << rows << " rows");
      Matmul({.products = {{GetParam(), 5}}, .rows = rows, .cols = blocks * BlockOf(GetParam())})
          .ExpectReferenceBits();
    }
  }
}

TEST_P(DeviceMatmulRows, GivesTheReferenceBitsForEveryStyle) {
  const int64_t cols = BlockOf(GetParam()) == 256 ? 512 : 288;
  for (const WeightStyle weights : kWeightStyles) {
    for (const ActivationStyle activations : kActivationStyles) {
      for (const int64_t rows : {2, 12}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(weights) << ", "
                                        << static_cast<int>(activations) << ", " << rows);
        Matmul({.products = {{GetParam(), 9}},
                .rows = rows,
                .cols = cols,
                .weights = weights,
                .activations = activations})
            .ExpectReferenceBits();
      }
    }
  }
}

TEST_P(DeviceMatmulRows, TakesWeightsAtAnyEvenAddress) {
  const int64_t cols = BlockOf(GetParam()) == 256 ? 512 : 96;
  for (const size_t offset : {2, 4, 8, 14, 16, 30, 32}) {
    for (const int64_t rows : {1, 9}) {
      SCOPED_TRACE(testing::Message() << offset << ", " << rows);
      Matmul({.products = {{GetParam(), 6, offset}}, .rows = rows, .cols = cols})
          .ExpectReferenceBits();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, DeviceMatmulRows, testing::ValuesIn(kComputableDtypes),
                         [](const auto& row) { return std::string(NameOf(row.param)); });

TEST(DeviceMatmulProducts, OfOneFormatOrSeveralAreComputedTogether) {
  for (const int64_t rows : {1, 11}) {
    SCOPED_TRACE(rows);
    Matmul({.products = {{Dtype::kQ4_K, 70, 16}, {Dtype::kQ4_K, 3}, {Dtype::kQ4_K, 129}},
            .rows = rows,
            .cols = 256})
        .ExpectReferenceBits();
    Matmul({.products =
                {{Dtype::kQ4_K, 64}, {Dtype::kF32, 7}, {Dtype::kQ6_K, 65, 2}, {Dtype::kQ8_0, 1, 6}},
            .rows = rows,
            .cols = 512})
        .ExpectReferenceBits();
  }
}

TEST(DeviceMatmulProducts, OneAtA16ByteBorderAndOneBesideItAreComputedTogether) {
  Matmul({.products = {{Dtype::kQ5_K, 5, 0}, {Dtype::kQ5_K, 5, 2}}, .rows = 2, .cols = 512})
      .ExpectReferenceBits();
}

}  // namespace
}  // namespace stoker
