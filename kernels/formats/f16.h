// F16: IEEE half precision.
#pragma once

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/ops.h"

namespace stoker {

struct F16 {
  struct Block {
    uint8_t bytes[2];
  };
  static_assert(sizeof(Block) == 2 && alignof(Block) == 1);
  static constexpr Dtype kDtype = Dtype::kF16;
  static constexpr int kBlockValues = 1;
  static constexpr ActivationKind kActivation = ActivationKind::kF32;

  STOKER_INLINE static float Value(const Block& block, int /*i*/) { return LoadHalf(block.bytes); }

  STOKER_INLINE static void Decode(const Block& block, float* y) { *y = Value(block, 0); }
};

}  // namespace stoker
