// Operations that keep a row's length: norm, rotation, activation, sums, narrowing.
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

STOKER_INLINE float SumOfSquares(const float* x, int64_t n) {
  F32s lanes[kDotRegisters];
  for (F32s& lane : lanes) {
    lane = F32s::Broadcast(0.0f);
  }
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int s = 0; s < kDotRegisters; ++s) {
      const F32s value = Load(x + i + s * kWidth);
      lanes[s] = Fma(value, value, lanes[s]);
    }
  }
  for (int s = 0; i < n; ++s, i += kWidth) {
    const F32s value = LoadUpTo(x + i, n - i);
    lanes[s] = n - i >= kWidth ? Fma(value, value, lanes[s])
                               : FmaPartial(value, value, lanes[s], static_cast<int>(n - i));
  }
  return FoldLanes(lanes);
}

}  // namespace

void RmsNorm(const float* x, const float* weight, int64_t n, float epsilon, float* y) {
  const float mean = SumOfSquares(x, n) / static_cast<float>(n);
  const F32s scale = F32s::Broadcast(1.0f / __builtin_sqrtf(mean + epsilon));
  for (int64_t i = 0; i < n; i += kWidth) {
    const F32s scaled = LoadUpTo(x + i, n - i) * scale;
    StoreUpTo(y + i, weight == nullptr ? scaled : scaled * LoadUpTo(weight + i, n - i), n - i);
  }
}

namespace {

STOKER_INLINE void Rotate(F32s& a, F32s& b, F32s cos, F32s sin) {
  const F32s minus_zero = F32s::Broadcast(-0.0f);
  const F32s rotated_a = Fma(a, cos, minus_zero - b * sin);
  b = Fma(a, sin, b * cos);
  a = rotated_a;
}

STOKER_INLINE void RotateOne(float& a, float& b, float cos, float sin) {
  const float rotated_a = __builtin_fmaf(a, cos, -(b * sin));
  b = __builtin_fmaf(a, sin, b * cos);
  a = rotated_a;
}

}  // namespace

void Rope(float* x, const float* cos, const float* sin, int64_t pairs, RopePairing pairing) {
  const bool halves = pairing == RopePairing::kHalves;
  int64_t i = 0;
  for (; i + kWidth <= pairs; i += kWidth) {
    F32s a;
    F32s b;
    if (halves) {
      a = Load(x + i);
      b = Load(x + pairs + i);
    } else {
      LoadPairs(x + 2 * i, a, b);
    }
    Rotate(a, b, Load(cos + i), Load(sin + i));
    if (halves) {
      Store(x + i, a);
      Store(x + pairs + i, b);
    } else {
      StorePairs(x + 2 * i, a, b);
    }
  }
  for (; i < pairs; ++i) {
    RotateOne(x[halves ? i : 2 * i], x[halves ? i + pairs : 2 * i + 1], cos[i], sin[i]);
  }
}

void SiluMultiply(const float* gate, const float* up, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kWidth) {
    StoreUpTo(y + i, Silu(LoadUpTo(gate + i, n - i)) * LoadUpTo(up + i, n - i), n - i);
  }
}

void Add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kWidth) {
    StoreUpTo(y + i, LoadUpTo(y + i, n - i) + LoadUpTo(x + i, n - i), n - i);
  }
}

void MultiplyAdd(float scale, const float* x, int64_t n, float* y) {
  const F32s factor = F32s::Broadcast(scale);
  for (int64_t i = 0; i < n; i += kWidth) {
    StoreUpTo(y + i, Fma(factor, LoadUpTo(x + i, n - i), LoadUpTo(y + i, n - i)), n - i);
  }
}

float Sigmoid(float x) { return stoker::Sigmoid(F32x1{x}).value; }

void ToF16(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    StoreF16(y + i, Load(x + i));
  }
  if (i < n) {
    uint16_t last[kWidth];
    StoreF16(last, LoadUpTo(x + i, n - i));
    __builtin_memcpy(y + i, last, static_cast<size_t>(n - i) * sizeof(uint16_t));
  }
}

}  // namespace stoker::cpu::STOKER_ISA
