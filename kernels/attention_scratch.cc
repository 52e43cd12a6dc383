// What one attention call needs besides its arguments, on whichever backend.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/device_args.h"
#include "kernels/ops.h"

namespace stoker {

// Work is cut into blocks of fixed size, so only the length of a key counts.
int64_t AttentionScratchFloats(int /*rows*/, int /*heads*/, int key_dim, int /*value_dim*/) {
  return cpu::AttentionFloats(key_dim);
}

int64_t AttendScratchFloats(int32_t heads, int32_t positions_max) {
  constexpr int64_t kFloatsMax = int64_t{8} << 20;
  const int64_t positions =
      (int64_t{positions_max} + kPagePositions - 1) / kPagePositions * kPagePositions;
  return std::min(kFloatsMax, kAttendSplitRowsMax * heads * positions);
}

}  // namespace stoker
