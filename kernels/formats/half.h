// The 16-bit floats of files, IEEE half and bfloat16, converted exactly in plain arithmetic.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace stoker {

STOKER_INLINE float FloatOfBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
STOKER_INLINE uint32_t BitsOfFloat(float value) { return __builtin_bit_cast(uint32_t, value); }

// Exact for every pattern, subnormals, infinities and (quiet) NaNs among them.
STOKER_INLINE float FloatOfHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fff) << 13;
  // Normal numbers need 112 more in the exponent. Infinity and NaN need 224: they are at 2^143
  // after the first step, and only they are that large.
  uint32_t normal = magnitude + (112u << 23);
  normal += magnitude >= (31u << 23) ? (112u << 23) : 0u;
  // A subnormal m * 2^-24 is (1 + m * 2^-10) * 2^-14 less 2^-14, which is exact.
  const uint32_t subnormal =
      BitsOfFloat(FloatOfBits(magnitude + (113u << 23)) - FloatOfBits(113u << 23));
  return FloatOfBits(sign | (magnitude < (1u << 23) ? subnormal : normal));
}

// Rounds to nearest even; too large becomes infinity; NaN stays a quiet NaN with its sign.
STOKER_INLINE uint16_t HalfOfFloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // From 65520 on, halfway between the largest half and the next power, everything is infinity.
  if (magnitude >= 0x477ff000u) {
    return static_cast<uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u));
  }
  // Below 2^-14 the spacing is 2^-24 throughout: adding 0.5, whose spacing is the same, rounds.
  if (magnitude < (113u << 23)) {
    const uint32_t rounded = BitsOfFloat(FloatOfBits(magnitude) + 0.5f) - BitsOfFloat(0.5f);
    return static_cast<uint16_t>(sign | rounded);
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xfffu + odd) >> 13));
}

STOKER_INLINE float FloatOfBfloat16(uint16_t bits) {
  return FloatOfBits(static_cast<uint32_t>(bits) << 16);
}

// A half at any address, little endian.
STOKER_INLINE float LoadHalf(const uint8_t* p) {
  return FloatOfHalf(static_cast<uint16_t>(p[0] | (p[1] << 8)));
}

}  // namespace stoker
