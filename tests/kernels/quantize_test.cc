// Activation rows and panels: as kernels/ops.h defines them, and the same bytes from every backend.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/panel.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {

void PrintTo(const BackendRow& row, std::ostream* os) { *os << row.name; }

namespace {

constexpr ActivationKind kKinds[] = {ActivationKind::kF32, ActivationKind::kQ8x32,
                                     ActivationKind::kQ8x256};

// Rows of bytes at an alignment of 64, of a length fixed at birth.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes) : storage_(bytes + 64, std::byte{0xa5}), bytes_(bytes) {}
  std::byte* data() {
    return storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64;
  }
  template <typename T>
  const T* as() {
    return reinterpret_cast<const T*>(data());
  }
  size_t bytes() const { return bytes_; }

 private:
  std::vector<std::byte> storage_;
  size_t bytes_;
};

int64_t ColsStep(ActivationKind kind) { return kind == ActivationKind::kQ8x256 ? 256 : 32; }

TEST(Quantize, BlocksOf32FollowTheDefinition) {
  Random random(1);
  const std::vector<float> x = MakeActivations(ActivationStyle::kSpikes, 288, random);
  AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x32, 288));
  reference::kOps.quantize(ActivationKind::kQ8x32, x.data(), 288, row.data());
  for (size_t b = 0; b < 9; ++b) {
    const Q8x32Group& group = row.as<Q8x32Group>()[b / 8];
    float largest = 0;
    for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[32 * b + i]));
    EXPECT_EQ(group.d[b % 8], largest / 127.0f);
    int sum = 0;
    for (size_t i = 0; i < 32; ++i) {
      const int q = group.q[32 * (b % 8) + i];
      EXPECT_EQ(q, std::nearbyint(x[32 * b + i] * (127.0f / largest)));
      sum += q;
    }
    EXPECT_EQ(group.sums[b % 8], sum);
  }
}

TEST(Quantize, ValuesPastTheRowAreZero) {
  const std::vector<float> x(288, 1.0f);
  AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x32, 288));
  reference::kOps.quantize(ActivationKind::kQ8x32, x.data(), 288, row.data());
  const Q8x32Group& last = row.as<Q8x32Group>()[1];
  for (int i = 32; i < 256; ++i) EXPECT_EQ(last.q[i], 0);
  for (int b = 1; b < 8; ++b) {
    EXPECT_EQ(last.d[b], 0.0f);
    EXPECT_EQ(last.sums[b], 0);
  }
}

TEST(Quantize, SuperblocksFollowTheDefinition) {
  Random random(2);
  const std::vector<float> x = MakeActivations(ActivationStyle::kNormal, 512, random);
  AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x256, 512));
  reference::kOps.quantize(ActivationKind::kQ8x256, x.data(), 512, row.data());
  for (size_t g = 0; g < 2; ++g) {
    const Q8x256Group& group = row.as<Q8x256Group>()[g];
    float largest = 0;
    for (size_t i = 0; i < 256; ++i) largest = std::max(largest, std::fabs(x[256 * g + i]));
    EXPECT_EQ(group.d, largest / 127.0f);
    int sums[16] = {};
    for (size_t i = 0; i < 256; ++i) {
      EXPECT_EQ(group.q[i], std::nearbyint(x[256 * g + i] * (127.0f / largest)));
      sums[i / 16] += group.q[i];
    }
    for (int j = 0; j < 16; ++j) EXPECT_EQ(group.sums[j], sums[j]);
  }
}

TEST(Quantize, TiesGoToTheEvenInteger) {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;  // so that the scale is one
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = 2.5f;
  x[4] = -2.5f;
  x[5] = -3.5f;
  AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x32, 32));
  reference::kOps.quantize(ActivationKind::kQ8x32, x.data(), 32, row.data());
  const int8_t* q = row.as<Q8x32Group>()->q;
  EXPECT_EQ(q[0], 127);
  EXPECT_EQ(q[1], 0);
  EXPECT_EQ(q[2], 2);
  EXPECT_EQ(q[3], 2);
  EXPECT_EQ(q[4], -2);
  EXPECT_EQ(q[5], -4);
}

TEST(Quantize, ABlockBelowTheThresholdVanishes) {
  for (const float value : {0x1p-120f, std::nextafter(0x1p-120f, 0.0f)}) {
    const std::vector<float> x(256, -value);
    AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x256, 256));
    reference::kOps.quantize(ActivationKind::kQ8x256, x.data(), 256, row.data());
    const bool vanishes = value < 0x1p-120f;
    EXPECT_EQ(row.as<Q8x256Group>()->d == 0.0f, vanishes);
    EXPECT_EQ(row.as<Q8x256Group>()->q[17], vanishes ? 0 : -127);
  }
}

TEST(Panel, HoldsEachRowInItsLane) {
  Random random(3);
  std::vector<std::vector<float>> x;
  for (int r = 0; r < 5; ++r) x.push_back(MakeActivations(ActivationStyle::kNormal, 256, random));
  const ActivationRows rows(reference::kOps, ActivationKind::kQ8x256, 256, x);
  const auto& panel = *reinterpret_cast<const Q8x256PanelGroup*>(rows.panels());
  for (int r = 0; r < kPanelRows; ++r) {
    static constexpr Q8x256Group kNone{};
    const Q8x256Group& row = r < 5 ? *reinterpret_cast<const Q8x256Group*>(rows.rows()[r]) : kNone;
    EXPECT_EQ(panel.d[r], row.d);
    for (int i = 0; i < 256; ++i) ASSERT_EQ(panel.q[i / 4][r][i % 4], row.q[i]);
    for (int j = 0; j < 16; ++j) EXPECT_EQ(panel.sums16[j / 2][r][j % 2], row.sums[j]);
    for (int j = 0; j < 8; ++j) {
      EXPECT_EQ(panel.sums32[j / 2][r][j % 2], row.sums[2 * j] + row.sums[2 * j + 1]);
    }
  }
}

class QuantizeOnBackend : public testing::TestWithParam<BackendRow> {
 protected:
  void SetUp() override { SKIP_UNLESS_RUNNABLE(GetParam()); }
  const Ops& ops() const { return *GetParam().ops; }
};

TEST_P(QuantizeOnBackend, RowsAreTheReferenceBytes) {
  for (const ActivationKind kind : kKinds) {
    for (int64_t cols = ColsStep(kind); cols <= 1024; cols += ColsStep(kind)) {
      for (const ActivationStyle style : kActivationStyles) {
        Random random(static_cast<uint64_t>(cols));
        const std::vector<float> x = MakeActivations(style, cols, random);
        AlignedBytes expected(ActivationRowBytes(kind, cols));
        AlignedBytes actual(ActivationRowBytes(kind, cols));
        reference::kOps.quantize(kind, x.data(), cols, expected.data());
        ops().quantize(kind, x.data(), cols, actual.data());
        ASSERT_EQ(std::memcmp(actual.data(), expected.data(), actual.bytes()), 0)
            << "kind " << static_cast<int>(kind) << " cols " << cols << " style "
            << static_cast<int>(style);
      }
    }
  }
}

TEST_P(QuantizeOnBackend, WhatIsNotFiniteMakesItsBlockNotANumber) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(512, 1.0f);
    x[300] = bad;
    AlignedBytes row(ActivationRowBytes(ActivationKind::kQ8x256, 512));
    ops().quantize(ActivationKind::kQ8x256, x.data(), 512, row.data());
    EXPECT_EQ(row.as<Q8x256Group>()[0].d, 1.0f / 127.0f);
    EXPECT_TRUE(std::isnan(row.as<Q8x256Group>()[1].d));
    EXPECT_EQ(row.as<Q8x256Group>()[1].q[0], 0);
  }
}

TEST_P(QuantizeOnBackend, PanelsAreTheReferenceBytes) {
  for (const ActivationKind kind : {ActivationKind::kQ8x32, ActivationKind::kQ8x256}) {
    for (const int64_t cols : {256, 512, 768}) {
      for (size_t count = 1; count <= 16; ++count) {
        Random random(count);
        std::vector<std::vector<float>> x(count);
        for (auto& row : x) row = MakeActivations(ActivationStyle::kNormal, cols, random);
        const ActivationRows expected(reference::kOps, kind, cols, x);
        const ActivationRows actual(ops(), kind, cols, x);
        ASSERT_EQ(std::memcmp(actual.panels(), expected.panels(), PanelBytes(kind, cols)), 0)
            << "cols " << cols << " count " << count;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, QuantizeOnBackend, testing::ValuesIn(FastBackends()),
                         [](const auto& row) { return BackendTestName(row.param); });

}  // namespace
}  // namespace stoker
