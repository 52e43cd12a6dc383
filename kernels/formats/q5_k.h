// Q5_K: Q4_K with a fifth bit for each weight; 5.5 bits a weight.
//
// Bit j of high[i] is worth 16 in value i of sub-block j. Block dot as for Q4_K: isum at most
// 256 * 63 * 31 * 128 < 2^26.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/k_scales.h"
#include "kernels/ops.h"

namespace stoker {

struct Q5_K {
  struct Block {
    KHeader header;
    uint8_t high[32];
    uint8_t q[128];
  };
  static_assert(sizeof(Block) == 176 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kQ5_K;
  static constexpr int kBlockValues = 256;
  static constexpr ActivationKind kActivation = ActivationKind::kQ8x256;
  static constexpr bool kHasMinima = true;

  STOKER_INLINE static Integers256 Unpack(const Block& block) {
    Integers256 unpacked;
    UnpackKHeader(block.header, unpacked);
    for (int p = 0; p < 4; ++p) {
      for (int i = 0; i < 32; ++i) {
        const int nibbles = block.q[32 * p + i];
        const int high = block.high[i] >> (2 * p);
        unpacked.q[64 * p + i] = static_cast<int8_t>((nibbles & 15) | ((high & 1) << 4));
        unpacked.q[64 * p + i + 32] = static_cast<int8_t>((nibbles >> 4) | ((high & 2) << 3));
      }
    }
    return unpacked;
  }

  STOKER_INLINE static float Value(const Block& block, int i) {
    const int j = i / 32;
    const int nibble = (block.q[32 * (j / 2) + i % 32] >> (4 * (j % 2))) & 15;
    const int high = (block.high[i % 32] >> j) & 1;
    return ValueWithMinimum(block.header, j, nibble | (high << 4));
  }

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    DecodeWithMinima(Unpack(block), y);
  }
};

}  // namespace stoker
