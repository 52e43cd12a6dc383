// Products of stored weights and activations: every backend gives the reference's bits, and the
// reference is as near to the exact product as its quantization and its roundings allow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "fmt/format.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

// Found by gtest when it prints a failing parameter.
void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

struct Shape {
  int64_t rows = 1;
  int64_t cols = 256;
  int64_t count = 1;
  int64_t row_begin = 0;
  int64_t row_end = 1;
};

Shape Whole(int64_t rows, int64_t cols, int64_t count) {
  return {.rows = rows, .cols = cols, .count = count, .row_begin = 0, .row_end = rows};
}

// Outputs with a guard value everywhere that a product may not write.
class Outputs {
 public:
  explicit Outputs(const Shape& shape) : stride_(shape.rows + 2 * kGuard) {
    values_.assign(static_cast<size_t>(stride_ * shape.count), kSentinel);
    for (int64_t j = 0; j < shape.count; ++j) {
      pointers_.push_back(values_.data() + j * stride_ + kGuard);
    }
  }
  float* const* pointers() const { return pointers_.data(); }
  float at(int64_t j, int64_t r) const { return pointers_[static_cast<size_t>(j)][r]; }
  const std::vector<float>& values() const { return values_; }

 private:
  static constexpr int64_t kGuard = 20;
  static constexpr float kSentinel = -12345.75f;
  int64_t stride_;
  std::vector<float> values_;
  std::vector<float*> pointers_;
};

class Product {
 public:
  Product(Dtype dtype, const Shape& shape, WeightStyle weights, ActivationStyle activations,
          uint64_t seed, size_t slack = 0)
      : shape_(shape),
        bytes_(RowBytes(dtype, shape.cols) * static_cast<size_t>(shape.rows)),
        weights_(bytes_, slack),
        view_{weights_.data(), dtype, shape.rows, shape.cols} {
    Random random(seed);
    FillWeights(dtype, weights, weights_.data(), bytes_, random);
    for (int64_t j = 0; j < shape.count; ++j) {
      x_.push_back(MakeActivations(activations, shape.cols, random));
    }
  }

  Outputs Run(const Ops& ops, bool with_panels) const {
    const ActivationRows rows(ops, ActivationKindOf(view_.dtype), shape_.cols, x_);
    Outputs out(shape_);
    ops.matmul({.w = view_,
                .row_begin = shape_.row_begin,
                .row_end = shape_.row_end,
                .count = shape_.count,
                .x = rows.rows(),
                .panels = with_panels ? rows.panels() : nullptr,
                .out = out.pointers()});
    return out;
  }

  const MatrixView& view() const { return view_; }
  const std::vector<std::vector<float>>& x() const { return x_; }

 private:
  Shape shape_;
  size_t bytes_;
  GuardedBytes weights_;
  MatrixView view_;
  std::vector<std::vector<float>> x_;
};

// Fails, naming the first cell, unless both hold the same bits, guards included.
void ExpectSameBits(const Outputs& actual, const Outputs& expected, const std::string& where) {
  for (size_t i = 0; i < expected.values().size(); ++i) {
    const float a = actual.values()[i];
    const float e = expected.values()[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(e))
        << where << ": float " << i << " of the output buffer is " << a << ", not " << e;
  }
}

class MatmulOnBackend : public testing::TestWithParam<std::tuple<BackendRow, Dtype>> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(std::get<0>(GetParam())); }
  const Ops& ops() const { return *std::get<0>(GetParam()).ops; }
  Dtype dtype() const { return std::get<1>(GetParam()); }

  void ExpectReferenceBits(const Shape& shape, WeightStyle weights, ActivationStyle activations,
                           uint64_t seed, size_t slack = 0) const {
    const Product product(dtype(), shape, weights, activations, seed, slack);
    const Outputs expected = product.Run(reference::kOps, false);
    for (const bool with_panels : {false, true}) {
      ExpectSameBits(product.Run(ops(), with_panels), expected,
                     fmt::format("{} {} rows {} cols {} count {} range {}:{} weights {} "
                                 "activations {} panels {} slack {}",
                                 ops().name, NameOf(dtype()), shape.rows, shape.cols, shape.count,
                                 shape.row_begin, shape.row_end, static_cast<int>(weights),
                                 static_cast<int>(activations), with_panels, slack));
    }
  }
};

TEST_P(MatmulOnBackend, SmallShapesGiveReferenceBits) {
  const int64_t step = std::max(32, InfoOf(dtype()).block_values);
  for (int64_t cols = step; cols <= 1024; cols += step) {
    for (int64_t rows = 1; rows <= 9; ++rows) {
      for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{3}, kPanelRowsMin}) {
        ExpectReferenceBits(Whole(rows, cols, count), WeightStyle::kRandom,
                            ActivationStyle::kNormal, static_cast<uint64_t>(cols + rows));
      }
    }
  }
}

TEST_P(MatmulOnBackend, EveryCountGivesReferenceBits) {
  for (int64_t count = 1; count <= 40; ++count) {
    ExpectReferenceBits(Whole(11, 768, count), WeightStyle::kRandom, ActivationStyle::kNormal,
                        static_cast<uint64_t>(count));
  }
  ExpectReferenceBits(Whole(17, 512, 150), WeightStyle::kRandom, ActivationStyle::kNormal, 7);
}

TEST_P(MatmulOnBackend, LongRowsGiveReferenceBits) {
  for (const int64_t cols : {2048, 2304, 4096, 7168}) {
    for (const int64_t count : {1, 3, 17}) {
      ExpectReferenceBits(Whole(5, cols, count), WeightStyle::kRandom, ActivationStyle::kSpikes,
                          static_cast<uint64_t>(cols));
    }
  }
}

TEST_P(MatmulOnBackend, EveryAlignmentOfWeightsGivesReferenceBits) {
  for (size_t slack = 0; slack < 70; ++slack) {
    ExpectReferenceBits(Whole(9, 512, 1 + static_cast<int64_t>(slack % 12)), WeightStyle::kRandom,
                        ActivationStyle::kNormal, slack, slack);
  }
}

TEST_P(MatmulOnBackend, ExtremeValuesGiveReferenceBits) {
  for (const WeightStyle weights : kWeightStyles) {
    for (const ActivationStyle activations : kActivationStyles) {
      for (const int64_t count : {1, 3, 18}) {
        ExpectReferenceBits(Whole(10, 1280, count), weights, activations,
                            static_cast<uint64_t>(count));
      }
    }
  }
}

TEST_P(MatmulOnBackend, OnlyTheRangeOfRowsIsWritten) {
  for (int64_t begin = 0; begin <= 13; ++begin) {
    for (int64_t end = begin; end <= 13; ++end) {
      for (const int64_t count : {int64_t{1}, kPanelRowsMin}) {
        const Shape shape{
            .rows = 13, .cols = 512, .count = count, .row_begin = begin, .row_end = end};
        ExpectReferenceBits(shape, WeightStyle::kRandom, ActivationStyle::kNormal, 3);
      }
    }
  }
}

TEST_P(MatmulOnBackend, ARowDoesNotDependOnItsNeighbours) {
  const Product product(dtype(), Whole(12, 768, 20), WeightStyle::kRandom, ActivationStyle::kNormal,
                        11);
  const Outputs together = product.Run(ops(), true);
  const ActivationKind kind = ActivationKindOf(dtype());
  for (size_t j = 0; j < product.x().size(); ++j) {
    const ActivationRows alone(ops(), kind, 768, {product.x()[j]});
    for (int64_t r = 0; r < 12; ++r) {
      std::vector<float> out(12);
      float* const outs[] = {out.data()};
      ops().matmul({.w = product.view(),
                    .row_begin = r,
                    .row_end = r + 1,
                    .count = 1,
                    .x = alone.rows(),
                    .out = outs});
      ASSERT_EQ(std::bit_cast<uint32_t>(out[static_cast<size_t>(r)]),
                std::bit_cast<uint32_t>(together.at(static_cast<int64_t>(j), r)))
          << "activation row " << j << ", weight row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, MatmulOnBackend,
                         testing::Combine(testing::ValuesIn(FastBackends()),
                                          testing::ValuesIn(kComputableDtypes)),
                         [](const auto& row) {
                           return BackendTestName(std::get<0>(row.param)) + "_" +
                                  std::string(NameOf(std::get<1>(row.param)));
                         });

class ReferenceMatmul : public testing::TestWithParam<Dtype> {};

// What the exactly computed product of decoded weights and decoded activations may differ by.
//
// Integers inside a block are exact; float(isum) and float(msum), the product of the scales and
// each fma round once, relative error u = 2^-24 each, and the fma's and the tree's errors are
// relative to partial sums, which the sum of magnitudes bounds. A term passes at most `chain` fma
// (two a block of its strand) and three additions, and carries two roundings of its own:
// |error| <= ((1 + u)^(chain + 5) - 1) * sum of magnitudes, plus half a subnormal for each
// operation. Where blocks have minima, the magnitudes are those of isum and msum terms apart.
struct ExactProduct {
  double value = 0;
  double magnitude = 0;
};

double ActivationScale(ActivationKind kind, const std::byte* row, int64_t i) {
  if (kind == ActivationKind::kQ8x256) {
    return reinterpret_cast<const Q8x256Group*>(row)[i / 256].d;
  }
  return reinterpret_cast<const Q8x32Group*>(row)[i / 256].d[i % 256 / 32];
}

// Both kinds of groups start with their integers.
int ActivationInteger(const std::byte* row, int64_t i) {
  return reinterpret_cast<const Q8x256Group*>(row)[i / 256].q[i % 256];
}

TEST_P(ReferenceMatmul, IsWithinItsRoundingBoundOfTheExactProduct) {
  const Dtype dtype = GetParam();
  const ActivationKind kind = ActivationKindOf(dtype);
  constexpr double kUnit = 0x1p-24;
  double worst_ratio = 0;
  std::string worst;
  for (const int64_t cols : {256, 1024, 4096}) {
    const Product product(dtype, Whole(16, cols, 4), WeightStyle::kRandom, ActivationStyle::kNormal,
                          static_cast<uint64_t>(cols));
    const Outputs out = product.Run(reference::kOps, false);
    const ActivationRows rows(reference::kOps, kind, cols, product.x());
    std::vector<float> w(static_cast<size_t>(cols));
    for (int64_t r = 0; r < 16; ++r) {
      reference::kOps.decode(dtype, product.view().row(r), cols, w.data());
      for (int64_t j = 0; j < 4; ++j) {
        ExactProduct exact;
        for (int64_t i = 0; i < cols; ++i) {
          const std::byte* row = rows.rows()[j];
          const double x = ActivationScale(kind, row, i) * ActivationInteger(row, i);
          exact.value += w[static_cast<size_t>(i)] * x;
          // A weight d * s * q - dmin * m was rounded when decoded (at most three roundings of its
          // parts), and its parts may be larger than it: 64 * 32 * 2^-5 + 64 * 2^-5 bounds both.
          exact.magnitude += std::fabs(x) * (dtype == Dtype::kQ4_K || dtype == Dtype::kQ5_K
                                                 ? 66.0
                                                 : std::fabs(w[static_cast<size_t>(i)]));
        }
        const double steps = 2.0 * static_cast<double>(cols / InfoOf(dtype).block_values / 8 + 1);
        const double bound = (steps + 5 + 3) * 1.01 * kUnit * exact.magnitude;
        const double error = std::fabs(out.at(j, r) - exact.value);
        ASSERT_LE(error, bound) << "cols " << cols << " row " << r << " activation " << j;
        if (error > worst_ratio * bound) {
          worst_ratio = error / bound;
          worst = fmt::format("cols {} row {} activation {}: {} against {}", cols, r, j,
                              out.at(j, r), exact.value);
        }
      }
    }
  }
  fmt::print("worst cell at {:.4f} of the bound: {}\n", worst_ratio, worst);
}

INSTANTIATE_TEST_SUITE_P(, ReferenceMatmul,
                         testing::Values(Dtype::kQ8_0, Dtype::kQ4_0, Dtype::kQ4_K, Dtype::kQ5_K,
                                         Dtype::kQ6_K),
                         [](const auto& row) { return std::string(NameOf(row.param)); });

TEST(ReferenceMatmulOrder, StrandsAndTreeAreAsTheContractSays) {
  // Nine blocks of Q8_0 whose dots are chosen so that another order rounds differently: strand 0
  // gets 2^24 and then 1 (lost to rounding), and the tree adds 1 from strand 4 before strand 1.
  constexpr int64_t kCols = 9 * 32;
  struct Block {
    uint16_t d;
    int8_t q[32];
  };
  static_assert(sizeof(Block) == 34);
  std::vector<Block> row(9, Block{.d = 0x3c00, .q = {}});  // d = 1
  std::vector<float> x(kCols, 0.0f);
  const auto set = [&](size_t block, float value) {
    row[block].q[0] = 1;
    x[32 * block] = value;  // quantized to 127 with scale value / 127
  };
  set(0, 0x1p24f);
  set(8, 1.0f);
  set(4, 1.0f);
  set(1, 1.0f);
  set(5, 1.0f);
  const ActivationRows rows(reference::kOps, ActivationKind::kQ8x32, kCols, {x});
  float out[1];
  float* const outs[] = {out};
  reference::kOps.matmul(
      {.w = {reinterpret_cast<const std::byte*>(row.data()), Dtype::kQ8_0, 1, kCols},
       .row_begin = 0,
       .row_end = 1,
       .count = 1,
       .x = rows.rows(),
       .out = outs});
  const auto term = [](float value, float s) { return std::fma(value / 127.0f, 127.0f, s); };
  const float strand0 = term(1.0f, term(0x1p24f, 0.0f));
  const float one = term(1.0f, 0.0f);
  EXPECT_EQ(out[0], (strand0 + one) + (one + one));
  EXPECT_NE(out[0], (((strand0 + one) + one) + one));
}

}  // namespace
}  // namespace stoker
