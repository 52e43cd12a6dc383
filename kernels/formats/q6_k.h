// Q6_K: 256 six-bit weights in sixteen sub-blocks of 16 with signed 8-bit scales; 6.5625 bits a
// weight.
//
// Weight i of sub-block j is d * scale[j] * (q[i] - 32). Each half of 128 values takes 64 bytes of
// `low`, whose low nibbles are values 0 to 63 and high nibbles 64 to 127, and 32 bytes of `high`,
// whose bit pairs k belong to values 32k to 32k + 31.
//
// Block dot: isum = sum over j of scale[j] * (sum of (q - 32) * x), at most 256 * 128 * 32 * 128 =
// 2^27 in magnitude; no minima; dw = d.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/formats/integers.h"
#include "kernels/ops.h"

namespace stoker {

struct Q6_K {
  struct Block {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scale[16];
    uint8_t d[2];
  };
  static_assert(sizeof(Block) == 210 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kQ6_K;
  static constexpr int kBlockValues = 256;
  static constexpr ActivationKind kActivation = ActivationKind::kQ8x256;
  static constexpr bool kHasMinima = false;

  // Integer i of half h, less 32.
  STOKER_INLINE static int Integer(const Block& block, int h, int i) {
    const int nibble = (block.low[64 * h + i % 64] >> (4 * (i / 64))) & 15;
    const int high = (block.high[32 * h + i % 32] >> (2 * (i / 32))) & 3;
    return (nibble | (high << 4)) - 32;
  }

  STOKER_INLINE static float Value(const Block& block, int i) {
    const float scale = LoadHalf(block.d) * static_cast<float>(block.scale[i / 16]);
    return scale * static_cast<float>(Integer(block, i / 128, i % 128));
  }

  STOKER_INLINE static Integers256 Unpack(const Block& block) {
    Integers256 unpacked;
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 128; ++i) {
        unpacked.q[128 * h + i] = static_cast<int8_t>(Integer(block, h, i));
      }
    }
    for (int j = 0; j < 16; ++j) {
      unpacked.scale[j] = block.scale[j];
      unpacked.minimum[j] = 0;
    }
    unpacked.d = LoadHalf(block.d);
    unpacked.dmin = 0;
    return unpacked;
  }

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    const Integers256 unpacked = Unpack(block);
    for (int j = 0; j < 16; ++j) {
      const float scale = unpacked.d * static_cast<float>(unpacked.scale[j]);
      for (int i = 16 * j; i < 16 * j + 16; ++i) y[i] = scale * static_cast<float>(unpacked.q[i]);
    }
  }
};

}  // namespace stoker
