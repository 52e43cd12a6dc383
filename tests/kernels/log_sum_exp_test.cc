// What a softmax divides by: every backend gives the reference's bits at every length, and the
// reference is as near to F64 as its order of summation lets it be.
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Around the ends of registers, of pieces, and of as many pieces as there are lanes.
std::vector<int64_t> Lengths() {
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n <= 70; ++n) lengths.push_back(n);
  for (const int64_t pieces : {1, 2, 31, 32, 33, 65}) {
    for (const int64_t more : {-33, -1, 0, 1, 17, 500}) {
      lengths.push_back(pieces * kExpSumPiece + more);
    }
  }
  return lengths;
}

ExpSum SumOf(const Ops& ops, const std::vector<float>& x) {
  const GuardedBytes bytes(x.size() * sizeof(float));  // ends at an unreadable page
  auto* row = reinterpret_cast<float*>(bytes.data());
  std::copy(x.begin(), x.end(), row);
  return ops.log_sum_exp(row, static_cast<int64_t>(x.size()));
}

testing::AssertionResult SameSums(const ExpSum& actual, const ExpSum& expected) {
  return SameBits(std::vector{actual.max, actual.sum}, std::vector{expected.max, expected.sum});
}

class LogSumExpOnBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }
};

TEST_P(LogSumExpOnBackend, GivesReferenceBitsAtEveryLength) {
  Random random(3);
  for (const int64_t n : Lengths()) {
    for (const float scale : {0.01f, 4.0f, 60.0f}) {
      std::normal_distribution<float> normal(-5, scale);
      std::vector<float> x(static_cast<size_t>(n));
      for (float& value : x) value = normal(random);
      ASSERT_TRUE(SameSums(SumOf(ops(), x), SumOf(reference::kOps, x))) << n << " of " << scale;
    }
  }
}

TEST_P(LogSumExpOnBackend, CountsEqualValues) {
  for (const int64_t n : Lengths()) {
    if (n == 0) continue;
    const ExpSum sum = SumOf(ops(), std::vector<float>(static_cast<size_t>(n), -1234.5f));
    EXPECT_EQ(sum.max, -1234.5f);
    EXPECT_EQ(sum.sum, static_cast<float>(n));
  }
}

TEST_P(LogSumExpOnBackend, AZeroHasNoSign) {
  for (const float first : {0.0f, -0.0f}) {
    for (const size_t place : {size_t{0}, size_t{20}, size_t{39}}) {
      std::vector<float> x(40, -first);
      x[place] = first;
      EXPECT_TRUE(SameSums(SumOf(ops(), x), {0.0f, 40.0f})) << place;
    }
  }
}

TEST_P(LogSumExpOnBackend, WhatIsMinusInfinityAddsNothing) {
  std::vector<float> x(2100, -kInfinity);
  EXPECT_TRUE(SameSums(SumOf(ops(), {}), {-kInfinity, 0.0f}));
  EXPECT_TRUE(SameSums(SumOf(ops(), x), {-kInfinity, 0.0f}));
  x[1500] = -3;
  EXPECT_TRUE(SameSums(SumOf(ops(), x), {-3.0f, 1.0f}));
}

TEST_P(LogSumExpOnBackend, ANanOrAnInfinityShowsWhereverItIs) {
  for (const float bad : {kNaN, kInfinity}) {
    for (const size_t place : {size_t{0}, size_t{33}, size_t{1024}, size_t{2099}}) {
      std::vector<float> x(2100, 1.0f);
      x[place] = bad;
      const ExpSum sum = SumOf(ops(), x);
      EXPECT_EQ(sum.max, bad == kInfinity ? kInfinity : 1.0f) << place;
      EXPECT_TRUE(std::isnan(sum.sum)) << place;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LogSumExpOnBackend, testing::ValuesIn(Backends()));

// Each term is off by the rounding of its exponent and of exp (0.9 ulp), each sum by half an ulp an
// addition: of the 32 in a lane of a piece, of the pieces in a lane, and of two trees of 5.
TEST(ReferenceLogSumExp, IsAsNearToF64AsItsAdditionsLetItBe) {
  constexpr double kHalfUlp = 0x1p-24;
  Random random(8);
  double worst = 0;
  for (const int64_t n : {1, 40, 1024, 5000, 151936}) {
    for (const float scale : {0.1f, 3.0f, 20.0f}) {
      std::normal_distribution<float> normal(0, scale);
      std::vector<float> x(static_cast<size_t>(n));
      for (float& value : x) value = normal(random);
      const ExpSum found = SumOf(reference::kOps, x);
      double sum = 0, bound = 0;
      for (const float value : x) {
        const double exponent = double{value} - double{found.max};
        const double term = std::exp(exponent);
        sum += term;
        bound += term * kHalfUlp * (std::abs(exponent) + 2 * 0.9);
      }
      const int64_t pieces = (n + kExpSumPiece - 1) / kExpSumPiece;
      bound += sum * kHalfUlp * (32 + 5 + static_cast<double>(pieces + 31) / 32 + 5);
      const double error = std::abs(double{found.sum} - sum);
      EXPECT_LE(error, bound * 1.001) << n << " values, " << scale;  // terms of second order
      worst = std::max(worst, error / bound);
    }
  }
  RecordProperty("worst_share_of_bound", std::to_string(worst));
}

}  // namespace
}  // namespace stoker
