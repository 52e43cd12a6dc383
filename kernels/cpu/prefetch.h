// Asks memory for weights before they are needed.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/cpu.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// Rows side by side are several short streams, which processors do not foresee well. A tile of rows
// is one stretch of memory, so each step asks for its share of the stretch kPrefetchBytes or a tile
// ahead, whichever is more: reading that much must take longer than memory takes to answer. Into
// the second level: asking for the first fills the few places where its misses wait (half the
// speed, measured on Zen 4). Asking past the end of a matrix is harmless.
inline constexpr int64_t kPrefetchBytes = 16384;

inline const char* Ahead(const void* tile, int64_t tile_bytes, int64_t at) {
  const int64_t distance = tile_bytes > kPrefetchBytes ? tile_bytes : kPrefetchBytes;
  return static_cast<const char*>(tile) + distance + at;
}

inline void PrefetchShare(const char* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(p + i, _MM_HINT_T1);
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
