// F32: plain floats.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/ops.h"

namespace stoker {

struct F32 {
  struct Block {
    uint8_t bytes[4];  // little endian, any alignment
  };
  static_assert(sizeof(Block) == 4 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kF32;
  static constexpr int kBlockValues = 1;
  static constexpr ActivationKind kActivation = ActivationKind::kF32;

  STOKER_INLINE static float Value(const Block& block, int /*i*/) {
    float value;
    __builtin_memcpy(&value, block.bytes, 4);
    return value;
  }

  STOKER_INLINE static void Decode(const Block& block, float* y) {
    __builtin_memcpy(y, block.bytes, 4);
  }
};

}  // namespace stoker
