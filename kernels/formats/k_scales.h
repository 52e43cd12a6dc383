// The header that Q4_K and Q5_K share: eight 6-bit scales and eight 6-bit minima in twelve bytes.
#pragma once

#include <cstdint>

#include "kernels/formats/half.h"
#include "kernels/formats/integers.h"

namespace stoker {

struct KHeader {
  uint8_t d[2];
  uint8_t dmin[2];
  // Byte j < 4: scale j in the low six bits; byte j + 4: minimum j. Byte j + 8: the low four bits
  // of scale j + 4, then of minimum j + 4; their high two bits top the bytes j and j + 4.
  uint8_t scales[12];
};
static_assert(sizeof(KHeader) == 16 && alignof(KHeader) == 1);

STOKER_INLINE int KScale(const KHeader& header, int j) {
  const uint8_t* s = header.scales;
  return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
}
STOKER_INLINE int KMinimum(const KHeader& header, int j) {
  const uint8_t* s = header.scales;
  return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
}

// Fills all of `unpacked` but its q: sub-block j of 32 has scales 2j and 2j + 1.
STOKER_INLINE void UnpackKHeader(const KHeader& header, Integers256& unpacked) {
  for (int j = 0; j < 8; ++j) {
    const int scale = KScale(header, j);
    const int minimum = KMinimum(header, j);
    unpacked.scale[2 * j] = unpacked.scale[2 * j + 1] = static_cast<int16_t>(scale);
    unpacked.minimum[2 * j] = unpacked.minimum[2 * j + 1] = static_cast<int16_t>(minimum);
  }
  unpacked.d = LoadHalf(header.d);
  unpacked.dmin = LoadHalf(header.dmin);
}

// (d * scale) * q - dmin * minimum, each product rounded: the order of gguf-py.
STOKER_INLINE float ValueWithMinimum(const KHeader& header, int j, int q) {
  const float scale = LoadHalf(header.d) * static_cast<float>(KScale(header, j));
  const float minimum = LoadHalf(header.dmin) * static_cast<float>(KMinimum(header, j));
  return scale * static_cast<float>(q) - minimum;
}
STOKER_INLINE void DecodeWithMinima(const Integers256& unpacked, float* y) {
  for (int j = 0; j < 16; ++j) {
    const float scale = unpacked.d * static_cast<float>(unpacked.scale[j]);
    const float minimum = unpacked.dmin * static_cast<float>(unpacked.minimum[j]);
    for (int i = 16 * j; i < 16 * j + 16; ++i) {
      y[i] = scale * static_cast<float>(unpacked.q[i]) - minimum;
    }
  }
}

}  // namespace stoker
