// Defines how activations are quantized to 8 bits.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/reference/reference.h"

namespace stoker::reference {
namespace {

float QuantizeBlock(const float* x, int length, int8_t* q) {
  float largest = 0;
  for (int i = 0; i < length; ++i) {
    if (!std::isfinite(x[i])) return std::numeric_limits<float>::quiet_NaN();
    largest = std::fmax(largest, std::fabs(x[i]));
  }
  if (largest < 0x1p-120f) return 0;
  const float inverse = 127.0f / largest;
  for (int i = 0; i < length; ++i) q[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return largest / 127.0f;
}

void QuantizeRow32(const float* x, int64_t cols, Q8x32Group* groups) {
  for (int64_t g = 0; 256 * g < cols; ++g) groups[g] = Q8x32Group{};
  for (int64_t b = 0; b < cols / 32; ++b) {
    Q8x32Group& group = groups[b / 8];
    int8_t* q = group.q + 32 * (b % 8);
    group.d[b % 8] = QuantizeBlock(x + 32 * b, 32, q);
    for (int i = 0; i < 32; ++i) group.sums[b % 8] += q[i];
  }
}

void QuantizeRow256(const float* x, int64_t cols, Q8x256Group* groups) {
  for (int64_t g = 0; g < cols / 256; ++g) {
    groups[g] = Q8x256Group{};
    groups[g].d = QuantizeBlock(x + 256 * g, 256, groups[g].q);
    for (int i = 0; i < 256; ++i) {
      groups[g].sums[i / 16] = static_cast<int16_t>(groups[g].sums[i / 16] + groups[g].q[i]);
    }
  }
}

}  // namespace

void Quantize(ActivationKind kind, const float* x, int64_t cols, std::byte* row) {
  switch (kind) {
    case ActivationKind::kF32:
      std::memcpy(row, x, static_cast<size_t>(cols) * sizeof(float));
      return;
    case ActivationKind::kQ8x32:
      return QuantizeRow32(x, cols, reinterpret_cast<Q8x32Group*>(row));
    case ActivationKind::kQ8x256:
      return QuantizeRow256(x, cols, reinterpret_cast<Q8x256Group*>(row));
  }
}

}  // namespace stoker::reference
