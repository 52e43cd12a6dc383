// exp and its kin: near enough to the exact functions, and exact where that is promised.
#include "kernels/elementary.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "fmt/format.h"
#include "gtest/gtest.h"

namespace stoker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float ExpOf(float x) { return Exp(F32x1{x}).value; }

// The spacing of floats at `exact`, the smallest one below the normal range.
double UlpAt(double exact) { return std::ldexp(1.0, std::max(std::ilogb(exact) - 23, -149)); }

// Every float takes minutes; over all of them the worst is 0.8913 ulp, at -5.848642. A step that is
// prime to the mantissa's length meets every exponent at places of its own.
constexpr uint32_t kStep = 251;

template <class Check>
void ForFloats(float from, float to, Check check) {
  const auto last = std::bit_cast<uint32_t>(to);
  for (uint32_t bits = std::bit_cast<uint32_t>(from); bits <= last; bits += kStep) {
    check(std::bit_cast<float>(bits));
  }
}

TEST(Exp, IsWithinNineTenthsOfAnUlp) {
  double worst = 0;
  float worst_at = 0;
  const auto check = [&](float x) {
    const double exact = std::exp(static_cast<double>(x));
    const double error = std::abs(ExpOf(x) - exact) / UlpAt(exact);
    if (error > worst) {
      worst = error;
      worst_at = x;
    }
  };
  ForFloats(0.0f, 0x1.62e42ep+6f, check);
  ForFloats(-0.0f, -103.9720f, check);
  EXPECT_LE(worst, 0.892) << "at " << worst_at;
  RecordProperty("worst_ulp", fmt::format("{:.4f} at {}", worst, worst_at));
}

TEST(Exp, IsExactAtZeroAndInfinity) {
  EXPECT_EQ(ExpOf(0.0f), 1.0f);
  EXPECT_EQ(ExpOf(-0.0f), 1.0f);
  EXPECT_EQ(ExpOf(kInfinity), kInfinity);
  EXPECT_EQ(std::bit_cast<uint32_t>(ExpOf(-kInfinity)), 0u);
  EXPECT_TRUE(std::isnan(ExpOf(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Exp, OverflowsAndUnderflowsWhereTheExactFunctionDoes) {
  EXPECT_TRUE(std::isfinite(ExpOf(0x1.62e42ep+6f)));
  EXPECT_EQ(ExpOf(0x1.62e43p+6f), kInfinity);  // the next float: above ln(FLT_MAX)
  EXPECT_EQ(ExpOf(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_GT(ExpOf(-103.9f), 0.0f);
  EXPECT_EQ(ExpOf(-104.0f), 0.0f);
  EXPECT_EQ(ExpOf(std::numeric_limits<float>::lowest()), 0.0f);
}

TEST(Exp, NeverDecreases) {
  float previous = 0;
  for (float x = -105.0f; x < 90.0f; x += 0x1p-10f) {
    const float y = ExpOf(x);
    EXPECT_GE(y, previous) << "at " << x;
    previous = y;
  }
}

// 1 + e^-x: 1 ulp of the exponential (2 u), the sum and the quotient (u each), u = 2^-24, hence
// 4 u; first order, 1.001 covers the rest. Where the exact result is subnormal, u is half of
// 2^-149.
TEST(Sigmoid, IsWithinItsRoundings) {
  const auto check = [](float x) {
    const double exact = 1 / (1 + std::exp(-static_cast<double>(x)));
    const double bound = std::max(4 * 0x1p-24 * exact * 1.001, 0x1p-149);
    EXPECT_LE(std::abs(Sigmoid(F32x1{x}).value - exact), bound) << "at " << x;
  };
  for (float x = -88.0f; x <= 40.0f; x += 0x1p-9f) {
    check(x);
  }
  EXPECT_EQ(Sigmoid(F32x1{0.0f}).value, 0.5f);
  EXPECT_EQ(Sigmoid(F32x1{kInfinity}).value, 1.0f);
  EXPECT_EQ(Sigmoid(F32x1{-kInfinity}).value, 0.0f);
}

TEST(Silu, IsWithinItsRoundings) {
  for (float x = -80.0f; x <= 80.0f; x += 0x1p-9f) {
    const double exact = x / (1 + std::exp(-static_cast<double>(x)));
    EXPECT_LE(std::abs(Silu(F32x1{x}).value - exact), 4 * 0x1p-24 * std::abs(exact) * 1.001)
        << "at " << x;
  }
  EXPECT_EQ(std::bit_cast<uint32_t>(Silu(F32x1{-1000.0f}).value), 0x80000000u);
  EXPECT_EQ(Silu(F32x1{1000.0f}).value, 1000.0f);
}

}  // namespace
}  // namespace stoker
