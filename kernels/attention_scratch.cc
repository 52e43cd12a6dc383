// What one attention call needs besides its arguments, on whichever backend.
#include <cstdint>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/ops.h"

namespace stoker {

// Work is cut into blocks of fixed size, so only the length of a key counts.
int64_t AttentionScratchFloats(int /*rows*/, int /*heads*/, int key_dim, int /*value_dim*/) {
  return cpu::AttentionFloats(key_dim);
}

}  // namespace stoker
