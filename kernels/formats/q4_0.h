// Q4_0: 32 nibbles and one half scale. Weight i is d * (nibble - 8); 4.5 bits a weight.
//
// Byte j holds value j in its low nibble and value j + 16 in its high one. Block dot: isum = sum of
// (nibble - 8) * x, at most 32 * 8 * 128 = 2^15 in magnitude; dw = d.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/formats/integers.h"
#include "kernels/ops.h"

namespace stoker {

struct Q4_0 {
  struct Block {
    uint8_t d[2];
    uint8_t q[16];
  };
  static_assert(sizeof(Block) == 18 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kQ4_0;
  static constexpr int kBlockValues = 32;
  static constexpr ActivationKind kActivation = ActivationKind::kQ8x32;

  STOKER_INLINE static Integers32 Unpack(const Block& block) {
    Integers32 unpacked;
    for (int j = 0; j < 16; ++j) {
      unpacked.q[j] = static_cast<int8_t>((block.q[j] & 15) - 8);
      unpacked.q[j + 16] = static_cast<int8_t>((block.q[j] >> 4) - 8);
    }
    unpacked.d = LoadHalf(block.d);
    return unpacked;
  }

  STOKER_INLINE static float Value(const Block& block, int i) {
    const int nibble = i < 16 ? block.q[i] & 15 : block.q[i - 16] >> 4;
    return LoadHalf(block.d) * static_cast<float>(nibble - 8);
  }

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    const Integers32 unpacked = Unpack(block);
    for (int i = 0; i < 32; ++i) y[i] = unpacked.d * static_cast<float>(unpacked.q[i]);
  }
};

}  // namespace stoker
