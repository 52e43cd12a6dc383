// F32s: as many F32 values as one register holds, with the same operations for every instruction
// set. Loads and stores accept any address; the partial ones touch only the first n values.
//
// This header is compiled once for each instruction set (STOKER_ISA names its namespace).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/formats/half.h"
#include "kernels/portable.h"

#if defined(__AVX512F__)
#include "kernels/cpu/lanes_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/lanes_avx2.h"
#else
#include "kernels/cpu/lanes_scalar.h"
#endif

namespace stoker::cpu::STOKER_ISA {

// Lanes of the float dot and the float sum (kernels/ops.h), and the registers that hold them.
inline constexpr int kDotLanes = 32;
inline constexpr int kDotRegisters = kDotLanes / kWidth;

STOKER_INLINE int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }
STOKER_INLINE int64_t Larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Bytes of one value of a float dtype.
template <Dtype kDtype>
inline constexpr int64_t kElementBytes = kDtype == Dtype::kF32 ? 4 : 2;

// The first min(n, kWidth) values at p, n >= 0, zeros after.
template <Dtype kDtype>
STOKER_INLINE F32s LoadUpTo(const std::byte* p, int64_t n) {
  if (n >= kWidth) {
    return LoadElements<kDtype>(p);
  }
  return LoadElementsPartial<kDtype>(p, static_cast<int>(n));
}

STOKER_INLINE F32s LoadUpTo(const float* p, int64_t n) {
  return LoadUpTo<Dtype::kF32>(reinterpret_cast<const std::byte*>(p), n);
}

STOKER_INLINE void StoreUpTo(float* p, F32s x, int64_t n) {
  if (n >= kWidth) {
    Store(p, x);
  } else {
    StorePartial(p, x, static_cast<int>(n));
  }
}

// Adds the lanes of a float dot in a halving tree.
STOKER_INLINE float FoldLanes(const F32s (&lanes)[kDotRegisters]) {
  alignas(64) float values[kDotLanes];
  for (int s = 0; s < kDotRegisters / 2; ++s) {
    Store(values + s * kWidth, lanes[s] + lanes[s + kDotRegisters / 2]);
  }
  for (int half = kDotLanes / 4; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) {
      values[l] += values[l + half];
    }
  }
  return values[0];
}

}  // namespace stoker::cpu::STOKER_ISA
