// The panel: sixteen activation rows interleaved, so that a vector of sixteen 32-bit lanes holds
// four values of each row, and one broadcast of four weights meets all of them.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace stoker {

// One group of 256 values of sixteen rows of kQ8x32. Rows that are not there are all zero.
struct alignas(64) Q8x32PanelGroup {
  int8_t q[64][16][4];  // [four values][row]
  float d[8][16];       // [block][row]
  int32_t sums[8][16];  // of q over each block
};

// The same for kQ8x256. Sums come in pairs for instructions that multiply and add neighbours.
struct alignas(64) Q8x256PanelGroup {
  int8_t q[64][16][4];
  float d[16];
  int16_t sums32[4][16][2];  // of q over each 32 values: sub-blocks 2p and 2p + 1
  int16_t sums16[8][16][2];  // of q over each 16 values
};
static_assert(sizeof(Q8x32PanelGroup) == 5120 && sizeof(Q8x256PanelGroup) == 4928);

}  // namespace stoker
