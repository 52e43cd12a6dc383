// Operations that keep a row's length: norm, rotation, activation, sums, narrowing.
#include <cmath>
#include <cstdint>

#include "kernels/elementary.h"
#include "kernels/formats/half.h"
#include "kernels/reference/lane_sums.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {

void RmsNorm(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  LaneSums squares;
  for (int64_t i = 0; i < n; ++i) {
    squares.MultiplyAdd(i, x[i], x[i]);
  }
  const float scale = 1.0f / std::sqrt(squares.Total() / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * scale;
    y[i] = weight == nullptr ? scaled : scaled * weight[i];
  }
}

void Rope(float* x, const float* cos, const float* sin, int64_t pairs, RopePairing pairing) {
  const bool halves = pairing == RopePairing::kHalves;
  for (int64_t i = 0; i < pairs; ++i) {
    float& a = x[halves ? i : 2 * i];
    float& b = x[halves ? i + pairs : 2 * i + 1];
    const float rotated_a = std::fma(a, cos[i], -(b * sin[i]));
    const float rotated_b = std::fma(a, sin[i], b * cos[i]);
    a = rotated_a;
    b = rotated_b;
  }
}

void SiluMultiply(const float* gate, const float* up, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = Silu(F32x1{gate[i]}).value * up[i];
  }
}

void Add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = y[i] + x[i];
  }
}

void MultiplyAdd(float scale, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = std::fma(scale, x[i], y[i]);
  }
}

float Sigmoid(float x) { return stoker::Sigmoid(F32x1{x}).value; }

void ToF16(const float* x, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = HalfOfFloat(x[i]);
  }
}

}  // namespace stoker::reference
