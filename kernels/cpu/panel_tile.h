// What panel kernels of every instruction set work on: a tile of weight rows, unpacked, and the
// strands of its products.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

inline constexpr int kTileRows = 8;    // weight rows unpacked together
inline constexpr int kPassPanels = 4;  // panels that meet them before the next pass

// One superblock of each weight row of a tile. Weights are unsigned (an offset too large, where the
// format's values are signed).
struct alignas(64) UnpackedSuperblocks {
  uint8_t q[kTileRows][256];
  int32_t scale[kTileRows][16];      // in the form that the instruction set multiplies by
  int32_t scale_pair[kTileRows][8];  // two 16-bit scales each (formats with an offset)
  int32_t minimum_pair[kTileRows][4];
  float d[kTileRows];
  float dmin[kTileRows];
};

// Eight blocks of 32 of each weight row of a tile.
struct alignas(64) UnpackedBlocks {
  uint8_t q[kTileRows][256];
  float d[kTileRows][8];
};

// The strands of a pass: [strand][weight row][panel][activation row]. Only the strands that got a
// block hold anything.
struct alignas(64) PassStrands {
  float s[8][kTileRows][kPassPanels][kPanelRows];
};

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
