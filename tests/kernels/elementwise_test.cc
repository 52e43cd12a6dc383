// Norm, rotation, activation, sums and narrowing: every backend gives the reference's bits at every
// length, touches nothing beyond it, and works in place where that is promised.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "kernels/formats/half.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

enum class Values {
  kNormal,
  kWide,     // any exponent, subnormals among them, both zeros
  kLargest,  // near the largest float
};
constexpr Values kValues[] = {Values::kNormal, Values::kWide, Values::kLargest};

float MakeValue(Values style, Random& random) {
  std::normal_distribution<float> normal;
  switch (style) {
    case Values::kNormal:
      return normal(random);
    case Values::kWide: {
      const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
      return std::isfinite(value) && random() % 8 != 0 ? value
                                                       : std::copysign(0.0f, normal(random));
    }
    case Values::kLargest:
      return std::copysign(std::numeric_limits<float>::max() * 0.9f, normal(random));
  }
  return 0;
}

// n floats that end at an unreadable page, so at an address that is a multiple of 4 only.
class Floats {
 public:
  explicit Floats(const std::vector<float>& values)
      : count_(values.size()), bytes_(values.size() * sizeof(float)) {
    std::copy(values.begin(), values.end(), data());
  }
  float* data() const { return reinterpret_cast<float*>(bytes_.data()); }
  std::span<const float> span() const { return {data(), count_}; }

 private:
  size_t count_;
  GuardedBytes bytes_;
};

std::vector<float> MakeValues(Values style, int64_t n, Random& random) {
  std::vector<float> values(static_cast<size_t>(n));
  std::generate(values.begin(), values.end(), [&] { return MakeValue(style, random); });
  return values;
}

class ElementwiseOnBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }

  // Runs `run(ops, a, b, y)` on n random values each, for every length and style, here and on the
  // reference, and compares y.
  using Run = std::function<void(const Ops&, const float* a, const float* b, int64_t n, float* y)>;
  void ExpectReferenceBits(const Run& run) const {
    Random random(7);
    for (const Values style : kValues) {
      for (int64_t n = 1; n <= 300; n += n < 70 ? 1 : 23) {
        const Floats a(MakeValues(style, n, random));
        const Floats b(MakeValues(style, n, random));
        const std::vector<float> start = MakeValues(style, n, random);
        const Floats actual(start);
        const Floats expected(start);
        run(ops(), a.data(), b.data(), n, actual.data());
        run(reference::kOps, a.data(), b.data(), n, expected.data());
        ASSERT_TRUE(SameBits(actual.span(), expected.span()))
            << "n " << n << " style " << static_cast<int>(style);
      }
    }
  }
};

TEST_P(ElementwiseOnBackend, RmsNormGivesReferenceBits) {
  ExpectReferenceBits([](const Ops& ops, const float* a, const float* b, int64_t n, float* y) {
    ops.rms_norm(a, b, n, 1e-6f, y);
  });
  ExpectReferenceBits([](const Ops& ops, const float* a, const float*, int64_t n, float* y) {
    ops.rms_norm(a, nullptr, n, 1e-5f, y);
  });
}

TEST_P(ElementwiseOnBackend, RmsNormWorksInPlace) {
  ExpectReferenceBits([](const Ops& ops, const float* a, const float* b, int64_t n, float* y) {
    std::copy_n(a, n, y);
    ops.rms_norm(y, b, n, 1e-6f, y);
  });
}

TEST_P(ElementwiseOnBackend, SiluMultiplyGivesReferenceBits) {
  ExpectReferenceBits([](const Ops& ops, const float* a, const float* b, int64_t n, float* y) {
    ops.silu_multiply(a, b, n, y);
  });
}

TEST_P(ElementwiseOnBackend, SiluMultiplyWorksInPlaceOnEitherSide) {
  for (const bool on_gate : {false, true}) {
    ExpectReferenceBits(
        [on_gate](const Ops& ops, const float* a, const float*, int64_t n, float* y) {
          ops.silu_multiply(on_gate ? y : a, on_gate ? a : y, n, y);
        });
  }
}

// Sweeps the arguments of exp: e^-x decides every bit of x / (1 + e^-x) below -17.
TEST_P(ElementwiseOnBackend, SiluMultiplyGivesReferenceBitsOverTheWholeRange) {
  std::vector<float> x;
  for (float value = -110.0f; value < 110.0f; value += 0x1.23p-9f) {
    x.push_back(value);
  }
  const std::vector<float> ones(x.size(), 1.0f);
  std::vector<float> actual(x.size());
  std::vector<float> expected(x.size());
  const auto n = static_cast<int64_t>(x.size());
  ops().silu_multiply(x.data(), ones.data(), n, actual.data());
  reference::kOps.silu_multiply(x.data(), ones.data(), n, expected.data());
  EXPECT_TRUE(SameBits(actual, expected));
}

TEST_P(ElementwiseOnBackend, AddGivesReferenceBits) {
  ExpectReferenceBits(
      [](const Ops& ops, const float* a, const float*, int64_t n, float* y) { ops.add(a, n, y); });
}

TEST_P(ElementwiseOnBackend, MultiplyAddGivesReferenceBits) {
  ExpectReferenceBits([](const Ops& ops, const float* a, const float* b, int64_t n, float* y) {
    ops.multiply_add(b[0], a, n, y);
  });
}

TEST_P(ElementwiseOnBackend, RopeGivesReferenceBits) {
  for (const RopePairing pairing : {RopePairing::kNeighbours, RopePairing::kHalves}) {
    ExpectReferenceBits([pairing](const Ops& ops, const float* a, const float* b, int64_t n,
                                  float* y) { ops.rope(y, a, b, n / 2, pairing); });
  }
}

TEST_P(ElementwiseOnBackend, SigmoidGivesReferenceBits) {
  ExpectReferenceBits([](const Ops& ops, const float* a, const float*, int64_t n, float* y) {
    std::transform(a, a + n, y, ops.sigmoid);
  });
}

TEST_P(ElementwiseOnBackend, ToF16RoundsEveryKindOfFloatToNearestEven) {
  Random random(3);
  std::vector<float> x;
  for (uint32_t half = 0; half < 0x7c00; ++half) {
    // Each half, the midpoint to the next, and its neighbours.
    const float value = FloatOfHalf(static_cast<uint16_t>(half));
    const float next = half + 1 < 0x7c00 ? FloatOfHalf(static_cast<uint16_t>(half + 1)) : 65536.0f;
    const float middle = (value + next) / 2;
    x.insert(x.end(), {value, -middle, std::nextafter(middle, 0.0f), std::nextafter(middle, next)});
  }
  x.push_back(std::numeric_limits<float>::infinity());
  x.push_back(-std::numeric_limits<float>::max());
  x.push_back(std::numeric_limits<float>::denorm_min());
  std::vector<uint16_t> y(x.size());
  ops().to_f16(x.data(), static_cast<int64_t>(x.size()), y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(y[i], HalfOfFloat(x[i])) << x[i];
  }
}

TEST_P(ElementwiseOnBackend, ToF16WritesNoMoreThanItsLength) {
  Random random(5);
  for (int64_t n = 1; n <= 50; ++n) {
    const Floats x(MakeValues(Values::kNormal, n, random));
    const GuardedBytes y(static_cast<size_t>(n) * 2);
    ops().to_f16(x.data(), n, reinterpret_cast<uint16_t*>(y.data()));
    for (int64_t i = 0; i < n; ++i) {
      uint16_t half;
      std::memcpy(&half, y.data() + 2 * i, 2);
      ASSERT_EQ(half, HalfOfFloat(x.data()[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseOnBackend, testing::ValuesIn(FastBackends()),
                         [](const auto& row) { return BackendTestName(row.param); });

// The sum of n squares is within (n / 32 + 5) u of exact, all terms having one sign; the root
// halves that; mean, epsilon, root, reciprocal and the two products add at most 6 u.
TEST(RmsNormReference, IsWithinItsRoundings) {
  Random random(11);
  for (const int64_t n : {1, 5, 64, 2048, 7168}) {
    const std::vector<float> x = MakeValues(Values::kNormal, n, random);
    const std::vector<float> weight = MakeValues(Values::kNormal, n, random);
    std::vector<float> y(x.size());
    reference::RmsNorm(x.data(), weight.data(), n, 1e-6f, y.data());
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6f);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = x[i] * scale * weight[i];
      const double steps = static_cast<double>(n / 32 + 6) / 2 + 6;
      EXPECT_LE(std::abs(y[i] - exact), steps * 0x1p-24 * std::abs(exact) * 1.001);
    }
  }
}

TEST(RopeReference, TurnsNeighboursAndHalvesByTheSameAngles) {
  const float cos[] = {0.5f, -1.0f};
  const float sin[] = {0.25f, 0.0f};
  float neighbours[] = {1, 2, 3, 4};
  reference::Rope(neighbours, cos, sin, 2, RopePairing::kNeighbours);
  EXPECT_TRUE(SameBits(neighbours, std::vector<float>{0.0f, 1.25f, -3.0f, -4.0f}));
  float halves[] = {1, 3, 2, 4};
  reference::Rope(halves, cos, sin, 2, RopePairing::kHalves);
  EXPECT_TRUE(SameBits(halves, std::vector<float>{0.0f, -3.0f, 1.25f, -4.0f}));
}

}  // namespace
}  // namespace stoker
