// Q8_0: 32 signed bytes and one half scale. Weight i is d * q[i]; 8.5 bits a weight.
//
// Block dot: isum = sum of q * x, at most 32 * 128 * 128 < 2^20 in magnitude; dw = d.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/formats/integers.h"
#include "kernels/ops.h"

namespace stoker {

struct Q8_0 {
  struct Block {
    uint8_t d[2];
    int8_t q[32];
  };
  static_assert(sizeof(Block) == 34 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kQ8_0;
  static constexpr int kBlockValues = 32;
  static constexpr ActivationKind kActivation = ActivationKind::kQ8x32;

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    const float d = LoadHalf(block.d);
    for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(block.q[i]);
  }

  STOKER_INLINE static float Value(const Block& block, int i) {
    return LoadHalf(block.d) * static_cast<float>(block.q[i]);
  }

  STOKER_INLINE static Integers32 Unpack(const Block& block) {
    Integers32 unpacked;
    __builtin_memcpy(unpacked.q, block.q, 32);
    unpacked.d = LoadHalf(block.d);
    return unpacked;
  }
};

}  // namespace stoker
