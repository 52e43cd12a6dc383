// exp, sigmoid and silu as one source for every backend, so that all of them give the same bits.
//
// V is one float (F32x1, below) or a vector of them (F32s of kernels/cpu/lanes.h). It supplies
// V::Broadcast, + - * /, and by argument-dependent lookup Fma(a, b, c), Max(a, b) = a > b ? a : b,
// Min(a, b) = a < b ? a : b, and ScaleByTwoTo.
#pragma once

#include <cstdint>

#include "kernels/formats/half.h"
#include "kernels/portable.h"

namespace stoker {

// 1.5 * 2^23: adding it to |y| < 2^22 leaves rint(y) in the low bits of the sum.
inline constexpr float kRoundToInteger = 12582912.0f;
inline constexpr uint32_t kRoundToIntegerBits = 0x4b400000u;

// One float in the shape of a vector.
struct F32x1 {
  float value;

  STOKER_INLINE static F32x1 Broadcast(float x) { return {x}; }
};

STOKER_INLINE F32x1 operator+(F32x1 a, F32x1 b) { return {a.value + b.value}; }
STOKER_INLINE F32x1 operator-(F32x1 a, F32x1 b) { return {a.value - b.value}; }
STOKER_INLINE F32x1 operator*(F32x1 a, F32x1 b) { return {a.value * b.value}; }
STOKER_INLINE F32x1 operator/(F32x1 a, F32x1 b) { return {a.value / b.value}; }
STOKER_INLINE F32x1 Max(F32x1 a, F32x1 b) { return a.value > b.value ? a : b; }
STOKER_INLINE F32x1 Min(F32x1 a, F32x1 b) { return a.value < b.value ? a : b; }
STOKER_INLINE F32x1 Fma(F32x1 a, F32x1 b, F32x1 c) {
  return {__builtin_fmaf(a.value, b.value, c.value)};
}

// p * 2^n, where `shifted` = n + kRoundToInteger and -152 <= n <= 130. Two exact powers of two are
// multiplied in, n / 2 rounded down first, because 2^n itself may lie outside the normal range;
// only the second product can round, so results underflow gradually and overflow to infinity.
STOKER_INLINE F32x1 ScaleByTwoTo(F32x1 p, F32x1 shifted) {
  const int32_t n = static_cast<int32_t>(BitsOfFloat(shifted.value) - kRoundToIntegerBits);
  const int32_t half = n >> 1;
  const uint32_t first = (static_cast<uint32_t>(half) + 127u) << 23;
  const uint32_t second = (static_cast<uint32_t>(n) - static_cast<uint32_t>(half) + 127u) << 23;
  return {p.value * FloatOfBits(first) * FloatOfBits(second)};
}

// e^x: within 0.892 ulp of exact for every float (checked over all of them); exp(0) is 1, exp(-inf)
// is 0, exp(inf) is inf, a NaN stays one.
//
// x = n ln 2 + r with |r| <= ln(2) / 2 (reduction in two fma steps, ln 2 = high + low), and e^r =
// 1 + r + r^2 q(r), whose four coefficients were fitted for the least relative error (3.2e-9, a
// twentieth of an ulp) with each rounded to F32 before the next was fitted.
template <class V>
STOKER_INLINE V Exp(V x) {
  // Beyond these the result is 0 or inf whatever x is; the clamp keeps n in ScaleByTwoTo's range.
  x = Min(V::Broadcast(89.0f), Max(V::Broadcast(-104.0f), x));
  const V shifted = Fma(x, V::Broadcast(0x1.715476p+0f), V::Broadcast(kRoundToInteger));
  const V n = shifted - V::Broadcast(kRoundToInteger);
  V r = Fma(n, V::Broadcast(-0x1.62e43p-1f), x);
  r = Fma(n, V::Broadcast(0x1.05c61p-29f), r);
  V p = V::Broadcast(0x1.6a4cb4p-10f);
  p = Fma(p, r, V::Broadcast(0x1.123986p-7f));
  p = Fma(p, r, V::Broadcast(0x1.5558bp-5f));
  p = Fma(p, r, V::Broadcast(0x1.555492p-3f));
  p = Fma(p, r, V::Broadcast(0x1.fffffcp-2f));
  p = Fma(p, r, V::Broadcast(1.0f));
  p = Fma(p, r, V::Broadcast(1.0f));
  return ScaleByTwoTo(p, shifted);
}

// 1 + e^-x, the denominator of both functions below.
template <class V>
STOKER_INLINE V OnePlusExpOfMinus(V x) {
  return V::Broadcast(1.0f) + Exp(V::Broadcast(0.0f) - x);
}

template <class V>
STOKER_INLINE V Sigmoid(V x) {
  return V::Broadcast(1.0f) / OnePlusExpOfMinus(x);
}

template <class V>
STOKER_INLINE V Silu(V x) {
  return x / OnePlusExpOfMinus(x);
}

}  // namespace stoker
