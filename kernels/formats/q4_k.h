// Q4_K: 256 nibbles in eight sub-blocks of 32 with 6-bit scales and minima; 4.5 bits a weight.
//
// Weight i of sub-block j is d * scale[j] * q[i] - dmin * minimum[j]. Bytes 32p to 32p + 31 of `q`
// hold sub-block 2p in their low nibbles and 2p + 1 in their high ones.
//
// Block dot: isum = sum over j of scale[j] * (sum of q * x), at most 256 * 63 * 15 * 128 < 2^25;
// msum = sum over j of minimum[j] * (sum of x), at most 256 * 63 * 128 < 2^21; dw = d.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/k_scales.h"
#include "kernels/ops.h"

namespace stoker {

struct Q4_K {
  struct Block {
    KHeader header;
    uint8_t q[128];
  };
  static_assert(sizeof(Block) == 144 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kQ4_K;
  static constexpr int kBlockValues = 256;
  static constexpr ActivationKind kActivation = ActivationKind::kQ8x256;
  static constexpr bool kHasMinima = true;

  STOKER_INLINE static Integers256 Unpack(const Block& block) {
    Integers256 unpacked;
    UnpackKHeader(block.header, unpacked);
    for (int p = 0; p < 4; ++p) {
      for (int i = 0; i < 32; ++i) {
        unpacked.q[64 * p + i] = static_cast<int8_t>(block.q[32 * p + i] & 15);
        unpacked.q[64 * p + i + 32] = static_cast<int8_t>(block.q[32 * p + i] >> 4);
      }
    }
    return unpacked;
  }

  STOKER_INLINE static float Value(const Block& block, int i) {
    const int j = i / 32;
    const int nibbles = block.q[32 * (j / 2) + i % 32];
    return ValueWithMinimum(block.header, j, (nibbles >> (4 * (j % 2))) & 15);
  }

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    DecodeWithMinima(Unpack(block), y);
  }
};

}  // namespace stoker
