// Activation rows quantized to 8 bits, in plain code that compilers make vectors of.
#include "kernels/cpu/cpu.h"
#include "kernels/formats/half.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// 1.5 * 2^23: floats are one apart there, so adding it rounds to an integer, ties to even.
constexpr float kRounder = 12582912.0f;

// Magnitudes as integers order like the floats, and integer maxima may be taken in any order.
uint32_t LargestMagnitude(const float* x, int length) {
  uint32_t largest = 0;
  for (int i = 0; i < length; ++i) {
    const uint32_t magnitude = BitsOfFloat(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

// Quantizes `length` values, a multiple of 16, onto a zeroed `q`; returns the scale.
float QuantizeBlock(const float* x, int length, int8_t* q) {
  const uint32_t largest_bits = LargestMagnitude(x, length);
  if (largest_bits >= 0x7f800000u) return __builtin_nanf("");
  const float largest = FloatOfBits(largest_bits);
  if (largest < 0x1p-120f) return 0.0f;
  const float inverse = 127.0f / largest;
  for (int i = 0; i < length; ++i) {
    const float rounded = x[i] * inverse + kRounder;
    q[i] = static_cast<int8_t>(BitsOfFloat(rounded) - BitsOfFloat(kRounder));
  }
  return largest / 127.0f;
}

int32_t Sum(const int8_t* q, int length) {
  int32_t sum = 0;
  for (int i = 0; i < length; ++i) sum += q[i];
  return sum;
}

void QuantizeGroup(const float* x, int64_t values, Q8x32Group& group) {
  __builtin_memset(&group, 0, sizeof group);
  for (int b = 0; b < values / 32 && b < 8; ++b) {
    group.d[b] = QuantizeBlock(x + 32 * b, 32, group.q + 32 * b);
    group.sums[b] = Sum(group.q + 32 * b, 32);
  }
}

void QuantizeGroup(const float* x, int64_t, Q8x256Group& group) {
  __builtin_memset(&group, 0, sizeof group);
  group.d = QuantizeBlock(x, 256, group.q);
  for (int j = 0; j < 16; ++j) group.sums[j] = static_cast<int16_t>(Sum(group.q + 16 * j, 16));
}

template <typename Group>
void QuantizeRow(const float* x, int64_t cols, std::byte* row) {
  auto* groups = reinterpret_cast<Group*>(row);
  for (int64_t g = 0; 256 * g < cols; ++g) QuantizeGroup(x + 256 * g, cols - 256 * g, groups[g]);
}

}  // namespace

void Quantize(ActivationKind kind, const float* x, int64_t cols, std::byte* row) {
  switch (kind) {
    case ActivationKind::kF32:
      __builtin_memcpy(row, x, static_cast<size_t>(cols) * sizeof(float));
      return;
    case ActivationKind::kQ8x32:
      return QuantizeRow<Q8x32Group>(x, cols, row);
    case ActivationKind::kQ8x256:
      return QuantizeRow<Q8x256Group>(x, cols, row);
  }
}

}  // namespace stoker::cpu::STOKER_ISA
