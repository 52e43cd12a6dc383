// How the scratch of one attention call is cut up; the same for every instruction set.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace stoker::cpu {

// Keys of a tile, at absolute positions (kernels/ops.h).
inline constexpr int64_t kTileKeys = 64;
// Queries (row and head) that walk the keys together: with 128 dimensions their queries, results
// and probabilities take 60 KiB, and a tile's widening is shared by 48.
inline constexpr int64_t kBlockQueries = 48;
// Dimensions of the values widened at a time: 64 keys of them take 16 KiB.
inline constexpr int64_t kStripDims = 64;
// Keys widened at a time, as many as one tile of the float dot has rows.
inline constexpr int64_t kStripKeys = 8;

// Floats between two widened keys: whole cache lines.
STOKER_INLINE constexpr int64_t WidenedKeyStride(int64_t key_dim) {
  return (key_dim + 15) / 16 * 16;
}

// Offsets into the scratch, in floats, each a multiple of 16.
inline constexpr int64_t kProbabilitiesOffset = 0;                   // [kBlockQueries, kTileKeys]
inline constexpr int64_t kValuesOffset = kBlockQueries * kTileKeys;  // [kTileKeys, kStripDims]
inline constexpr int64_t kKeysOffset = kValuesOffset + kTileKeys * kStripDims;
// Then [kStripKeys, WidenedKeyStride].

STOKER_INLINE constexpr int64_t AttentionFloats(int64_t key_dim) {
  return kKeysOffset + kStripKeys * WidenedKeyStride(key_dim);
}

}  // namespace stoker::cpu
