// Products of float weights of any length: every backend gives the reference's bits, and the
// reference is as near to the exact product as its roundings allow.
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/reference/load_float.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

constexpr Dtype kFloatDtypes[] = {Dtype::kF32, Dtype::kF16, Dtype::kBF16};
constexpr int64_t kGuard = 16;
constexpr float kSentinel = -12345.75f;

// Weights end at an unreadable page, as does each activation row; what pads a row is NaN.
class FloatProduct {
 public:
  FloatProduct(MatrixView shape, int64_t count, WeightStyle weights, ActivationStyle activations,
               size_t slack = 0)
      : view_(shape), weights_(view_.bytes(), slack), count_(count) {
    Random random(static_cast<uint64_t>(view_.cols * 1000 + view_.rows));
    FillWeights(view_.dtype, weights, weights_.data(), view_.bytes(), random);
    view_.data = weights_.data();
    for (int64_t j = 0; j < count; ++j) {
      const std::vector<float> values = MakeActivations(activations, view_.cols, random);
      const size_t bytes = ActivationRowBytes(ActivationKind::kF32, view_.cols);
      rows_.push_back(std::make_unique<GuardedBytes>(bytes));
      auto* row = reinterpret_cast<float*>(rows_.back()->data());
      std::fill_n(row, bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN());
      std::copy(values.begin(), values.end(), row);
      x_.push_back(rows_.back()->data());
    }
  }

  // All outputs with their guards.
  std::vector<float> Run(const Ops& ops, int64_t row_begin, int64_t row_end) const {
    const int64_t stride = view_.rows + 2 * kGuard;
    std::vector<float> out(static_cast<size_t>(stride * count_), kSentinel);
    std::vector<float*> pointers;
    for (int64_t j = 0; j < count_; ++j) {
      pointers.push_back(out.data() + j * stride + kGuard);
    }
    ops.matmul({.w = view_,
                .row_begin = row_begin,
                .row_end = row_end,
                .count = count_,
                .x = x_.data(),
                .out = pointers.data()});
    return out;
  }
  std::vector<float> Run(const Ops& ops) const { return Run(ops, 0, view_.rows); }

  template <class Value>
  void SetWeight(int64_t i, Value value) {
    std::memcpy(weights_.data() + static_cast<size_t>(i) * sizeof(value), &value, sizeof(value));
  }
  void SetActivations(float value) {
    for (const auto& row : rows_) {
      std::fill_n(reinterpret_cast<float*>(row->data()), view_.cols, value);
    }
  }

  const MatrixView& view() const { return view_; }
  float x(int64_t j, int64_t i) const {
    return reference::LoadFloat(Dtype::kF32, x_[static_cast<size_t>(j)], i);
  }

 private:
  MatrixView view_;
  GuardedBytes weights_;
  int64_t count_;
  std::vector<std::unique_ptr<GuardedBytes>> rows_;
  std::vector<const std::byte*> x_;
};

MatrixView Shape(Dtype dtype, int64_t rows, int64_t cols) {
  return {.data = nullptr, .dtype = dtype, .rows = rows, .cols = cols};
}

class FloatDotOnBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }

  void ExpectReferenceBits(const FloatProduct& product) const {
    EXPECT_TRUE(SameBits(product.Run(ops()), product.Run(reference::kOps)))
        << fmt::format("{} rows {} cols {}", NameOf(product.view().dtype), product.view().rows,
                       product.view().cols);
  }
};

TEST_P(FloatDotOnBackend, EveryLengthGivesReferenceBits) {
  for (const Dtype dtype : kFloatDtypes) {
    for (int64_t cols = 1; cols <= 130; ++cols) {
      for (const int64_t count : {1, 2, 3, 4, 5}) {
        ExpectReferenceBits(FloatProduct(Shape(dtype, 1 + cols % 19, cols), count,
                                         WeightStyle::kRandom, ActivationStyle::kNormal));
      }
    }
  }
}

TEST_P(FloatDotOnBackend, LengthsAroundATileGiveReferenceBits) {
  for (const Dtype dtype : kFloatDtypes) {
    for (const int64_t cols : {510, 511, 512, 513, 529, 576, 1024, 1055, 1536}) {
      for (const int64_t count : {1, 3, 7, 24, 25, 50}) {
        ExpectReferenceBits(FloatProduct(Shape(dtype, 17, cols), count, WeightStyle::kRandom,
                                         ActivationStyle::kSpikes));
      }
    }
  }
}

TEST_P(FloatDotOnBackend, ExtremesAndZerosGiveReferenceBits) {
  for (const Dtype dtype : kFloatDtypes) {
    for (const WeightStyle weights : kWeightStyles) {
      for (const ActivationStyle activations : kActivationStyles) {
        for (const int64_t count : {1, 6}) {
          ExpectReferenceBits(FloatProduct(Shape(dtype, 9, 77), count, weights, activations));
        }
      }
    }
  }
}

TEST_P(FloatDotOnBackend, WeightsMayLieAtAnyAddress) {
  for (const Dtype dtype : kFloatDtypes) {
    for (size_t slack = 0; slack < 17; ++slack) {
      for (const int64_t count : {1, 4}) {
        ExpectReferenceBits(FloatProduct(Shape(dtype, 5, 83), count, WeightStyle::kRandom,
                                         ActivationStyle::kNormal, slack));
      }
    }
  }
}

// Every product underflows to -0. A lane that has met one stays -0 until the end, so adding a zero
// for a column that does not exist would show: it turns -0 into +0.
TEST_P(FloatDotOnBackend, ColumnsPastTheEndAddNothing) {
  constexpr uint16_t kSmallestHalf = 1;
  constexpr uint16_t kSmallBfloat16 = 0x0080;  // 2^-126
  for (const Dtype dtype : kFloatDtypes) {
    for (int64_t cols = 1; cols <= 100; ++cols) {
      for (const int64_t count : {1, 2, 4}) {
        FloatProduct product(Shape(dtype, 3, cols), count, WeightStyle::kZero,
                             ActivationStyle::kZero);
        for (int64_t i = 0; i < 3 * cols; ++i) {
          if (dtype == Dtype::kF32) {
            product.SetWeight(i, 0x1p-126f);
          } else {
            product.SetWeight(i, dtype == Dtype::kF16 ? kSmallestHalf : kSmallBfloat16);
          }
        }
        product.SetActivations(-0x1p-140f);
        // Short rows leave some lanes at their +0.
        const float expected = cols < 32 ? 0.0f : -0.0f;
        const std::vector<float> out = product.Run(ops());
        EXPECT_TRUE(SameBits(std::span(out).subspan(kGuard, 3),
                             std::vector<float>{expected, expected, expected}))
            << NameOf(dtype) << " cols " << cols << " count " << count;
        ExpectReferenceBits(product);
      }
    }
  }
}

TEST_P(FloatDotOnBackend, ARangeOfRowsWritesOnlyThoseRows) {
  for (const Dtype dtype : kFloatDtypes) {
    for (const int64_t count : {1, 2, 5}) {
      const FloatProduct product(Shape(dtype, 23, 96), count, WeightStyle::kRandom,
                                 ActivationStyle::kNormal);
      for (const auto& [begin, end] : {std::pair{0, 1}, {3, 11}, {7, 23}, {22, 23}, {5, 5}}) {
        EXPECT_TRUE(
            SameBits(product.Run(ops(), begin, end), product.Run(reference::kOps, begin, end)))
            << begin << " to " << end;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, FloatDotOnBackend, testing::ValuesIn(FastBackends()),
                         [](const auto& row) { return BackendTestName(row.param); });

// Each of the cols / 32 fma of a lane and of the 5 additions of the tree rounds once, relative to a
// partial sum of at most sum |w x|. First order in u = 2^-24; the second is covered by 1.001.
TEST(FloatDotReference, IsWithinItsRoundingsOfTheExactProduct) {
  double worst = 0;
  for (const Dtype dtype : kFloatDtypes) {
    for (const int64_t cols : {1, 31, 33, 576, 2048, 7168}) {
      const FloatProduct product(Shape(dtype, 4, cols), 2, WeightStyle::kRandom,
                                 ActivationStyle::kSpikes);
      const std::vector<float> out = product.Run(reference::kOps);
      for (int64_t j = 0; j < 2; ++j) {
        for (int64_t r = 0; r < 4; ++r) {
          double exact = 0;
          double magnitude = 0;
          for (int64_t i = 0; i < cols; ++i) {
            const double term =
                static_cast<double>(reference::LoadFloat(dtype, product.view().row(r), i)) *
                product.x(j, i);
            exact += term;
            magnitude += std::abs(term);
          }
          const double steps = static_cast<double>((cols + 31) / 32 + 5);
          const double bound = steps * 0x1p-24 * magnitude * 1.001;
          const double got = out[static_cast<size_t>(j * (4 + 2 * kGuard) + kGuard + r)];
          EXPECT_LE(std::abs(got - exact), bound) << NameOf(dtype) << " cols " << cols;
          worst = std::max(worst, std::abs(got - exact) / bound);
        }
      }
    }
  }
  RecordProperty("worst_share_of_bound", fmt::format("{:.3f}", worst));
}

}  // namespace
}  // namespace stoker
