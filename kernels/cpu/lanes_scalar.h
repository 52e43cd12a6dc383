// F32s on any processor: plain loops over a short array. Included by kernels/cpu/lanes.h only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/elementary.h"
#include "kernels/formats/half.h"

namespace stoker::cpu::STOKER_ISA {

inline constexpr int kWidth = 4;

struct F32s {
  float v[kWidth];

  [[gnu::always_inline]] static F32s Broadcast(float x) { return {{x, x, x, x}}; }
};

// A vector of what `lane` (a function of the lane's index) gives.
template <class Lane>
STOKER_INLINE F32s ForEachLane(Lane lane) {
  return {{lane(0), lane(1), lane(2), lane(3)}};
}

STOKER_INLINE F32s operator+(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] + b.v[i]; });
}
STOKER_INLINE F32s operator-(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] - b.v[i]; });
}
STOKER_INLINE F32s operator*(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] * b.v[i]; });
}
STOKER_INLINE F32s operator/(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] / b.v[i]; });
}
STOKER_INLINE F32s Max(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
STOKER_INLINE F32s Min(F32s a, F32s b) {
  return ForEachLane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
STOKER_INLINE F32s Fma(F32s a, F32s b, F32s c) {
  return ForEachLane([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}

// Fma in the first n < kWidth lanes, c in the others.
STOKER_INLINE F32s FmaPartial(F32s a, F32s b, F32s c, int n) {
  return ForEachLane(
      [&](int i) { return i < n ? __builtin_fmaf(a.v[i], b.v[i], c.v[i]) : c.v[i]; });
}

// a + b in the first n < kWidth lanes, a in the others.
STOKER_INLINE F32s AddPartial(F32s a, F32s b, int n) {
  return ForEachLane([&](int i) { return i < n ? a.v[i] + b.v[i] : a.v[i]; });
}

STOKER_INLINE F32s ScaleByTwoTo(F32s p, F32s shifted) {
  return ForEachLane(
      [&](int i) { return stoker::ScaleByTwoTo(F32x1{p.v[i]}, F32x1{shifted.v[i]}).value; });
}

STOKER_INLINE float LargestLane(F32s x) {
  const float a = x.v[0] > x.v[1] ? x.v[0] : x.v[1];
  const float b = x.v[2] > x.v[3] ? x.v[2] : x.v[3];
  return a > b ? a : b;
}

// kWidth values of kDtype (F32, F16 or BF16) as F32.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElements(const std::byte* p) {
  if constexpr (kDtype == Dtype::kF32) {
    F32s x;
    __builtin_memcpy(x.v, p, sizeof(x.v));
    return x;
  } else {
    uint16_t bits[kWidth];
    __builtin_memcpy(bits, p, sizeof(bits));
    return ForEachLane([&](int i) {
      return kDtype == Dtype::kF16 ? FloatOfHalf(bits[i]) : FloatOfBfloat16(bits[i]);
    });
  }
}

// The first n < kWidth of them, zeros after.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElementsPartial(const std::byte* p, int n) {
  std::byte values[kWidth * sizeof(float)] = {};
  __builtin_memcpy(values, p, static_cast<size_t>(n) * (kDtype == Dtype::kF32 ? 4 : 2));
  return LoadElements<kDtype>(values);
}

STOKER_INLINE F32s Load(const float* p) {
  return LoadElements<Dtype::kF32>(reinterpret_cast<const std::byte*>(p));
}
STOKER_INLINE void Store(float* p, F32s x) { __builtin_memcpy(p, x.v, sizeof(x.v)); }
STOKER_INLINE void StorePartial(float* p, F32s x, int n) {
  __builtin_memcpy(p, x.v, static_cast<size_t>(n) * sizeof(float));
}
STOKER_INLINE void StoreF16(uint16_t* p, F32s x) {
  for (int i = 0; i < kWidth; ++i) {
    p[i] = HalfOfFloat(x.v[i]);
  }
}

// 2 * kWidth values at p: even[i] = p[2i], odd[i] = p[2i + 1].
STOKER_INLINE void LoadPairs(const float* p, F32s& even, F32s& odd) {
  even = ForEachLane([&](int i) { return p[2 * i]; });
  odd = ForEachLane([&](int i) { return p[2 * i + 1]; });
}

STOKER_INLINE void StorePairs(float* p, F32s even, F32s odd) {
  for (int i = 0; i < kWidth; ++i) {
    p[2 * i] = even.v[i];
    p[2 * i + 1] = odd.v[i];
  }
}

// Totals of eight float dots: totals[r] of lanes[r][0..32).
STOKER_INLINE void FoldEight(const float (*lanes)[32], float* totals) {
  for (int r = 0; r < 8; ++r) {
    float sums[16];
    for (int l = 0; l < 16; ++l) {
      sums[l] = lanes[r][l] + lanes[r][l + 16];
    }
    for (int half = 8; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) {
        sums[l] += sums[l + half];
      }
    }
    totals[r] = sums[0];
  }
}

}  // namespace stoker::cpu::STOKER_ISA
