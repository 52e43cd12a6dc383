// The ordered sum of experts' parts: the bits of the reference's steps.
#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/float_bits.h"
#include "tests/kernels/kernel_cases.h"

namespace stoker {
namespace {

enum class Shared { kNone, kPlain, kGated };

struct Shape {
  int64_t rows = 1;
  int64_t cols = 64;
  int32_t top_k = 2;
  Shared shared = Shared::kNone;
  bool has_places = false;
};

constexpr float kUntouched = -77.0f;

std::vector<float> Values(int64_t count, Random& random) {
  return MakeActivations(ActivationStyle::kSpikes, count, random);
}

void ExpectReferenceBits(const Shape& s) {
  SCOPED_TRACE(testing::Message() << s.rows << " rows of " << s.cols << ", " << s.top_k
                                  << " experts, shared " << static_cast<int>(s.shared));
  Random random(5);
  const int64_t stride = (s.cols + 15) / 16 * 16 + 16;
  constexpr int64_t kGateStride = 16;
  const std::vector<float> partial = Values(s.rows * s.top_k * stride, random);
  const std::vector<float> weights = Values(s.rows * s.top_k, random);
  const std::vector<float> shared = Values(s.rows * stride, random);
  const std::vector<float> gates = Values(s.rows * kGateStride, random);
  std::vector<int32_t> places(static_cast<size_t>(s.rows * s.top_k));
  std::iota(places.begin(), places.end(), 0);
  if (s.has_places) std::shuffle(places.begin(), places.end(), random);
  DeviceCase memory;
  const SumPartsArgs args = {
      .partial = memory.Input(partial),
      .places = s.has_places ? memory.Input(places) : nullptr,
      .weights = memory.Input(weights),
      .shared = s.shared == Shared::kNone ? nullptr : memory.Input(shared),
      .shared_gate = s.shared == Shared::kGated ? memory.Input(gates) : nullptr,
      .shared_gate_stride = kGateStride,
      .delta = memory.InOut(std::vector<float>(shared.size(), kUntouched)),
      .rows = s.rows,
      .cols = s.cols,
      .stride = stride,
      .top_k = s.top_k};
  ASSERT_TRUE(memory.Run(TwinOps().sum_parts, args));
  std::vector<float> expected(shared.size(), kUntouched);
  for (int64_t r = 0; r < s.rows; ++r) {
    float* delta = expected.data() + r * stride;
    std::fill_n(delta, s.cols, 0.0f);
    for (int64_t pair = r * s.top_k; pair < (r + 1) * s.top_k; ++pair) {
      reference::MultiplyAdd(weights[static_cast<size_t>(pair)],
                             partial.data() + places[static_cast<size_t>(pair)] * stride, s.cols,
                             delta);
    }
    const float* row = shared.data() + r * stride;
    if (s.shared == Shared::kPlain) reference::Add(row, s.cols, delta);
    if (s.shared == Shared::kGated) {
      const float gate = reference::Sigmoid(gates[static_cast<size_t>(r * kGateStride)]);
      reference::MultiplyAdd(gate, row, s.cols, delta);
    }
  }
  EXPECT_TRUE(SameBits(std::span(args.delta, expected.size()), expected));
}

TEST(DeviceSumParts, GivesReferenceBits) {
  for (const Shared shared : {Shared::kNone, Shared::kPlain, Shared::kGated}) {
    for (const int32_t top_k : {1, 2, 8, 11}) {
      for (const int64_t cols : {int64_t{1}, int64_t{37}, int64_t{128}, int64_t{1000}}) {
        ExpectReferenceBits({.rows = 3, .cols = cols, .top_k = top_k, .shared = shared});
      }
    }
  }
}

TEST(DeviceSumParts, TakesManyRows) { ExpectReferenceBits({.rows = 200, .cols = 40, .top_k = 3}); }

TEST(DeviceSumParts, FindsPartsInTheirPlaces) {
  ExpectReferenceBits({.rows = 9, .cols = 40, .top_k = 5, .has_places = true});
}

TEST(DeviceSumParts, DoesNothingWithoutRows) {
  DeviceCase memory;
  EXPECT_TRUE(memory.Run(TwinOps().sum_parts, SumPartsArgs{.rows = 0, .cols = 64, .top_k = 2}));
}

// The sum starts from +0, not from the first part: -0 becomes +0.
TEST(DeviceSumParts, StartsFromZero) {
  DeviceCase memory;
  const SumPartsArgs args = {.partial = memory.Input(std::vector<float>(16, -0.0f)),
                             .weights = memory.Input(std::vector<float>{1.0f}),
                             .delta = memory.Output<float>(16),
                             .rows = 1,
                             .cols = 16,
                             .stride = 16,
                             .top_k = 1};
  ASSERT_TRUE(memory.Run(TwinOps().sum_parts, args));
  EXPECT_TRUE(SameBits(std::span(args.delta, 16), std::vector<float>(16, 0.0f)));
}

}  // namespace
}  // namespace stoker
