// F32s on AVX-512 (F, BW, DQ, VL). Included by kernels/cpu/lanes.h only.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {

inline constexpr int kWidth = 16;

struct F32s {
  __m512 v;

  [[gnu::always_inline]] static F32s Broadcast(float x) { return {_mm512_set1_ps(x)}; }
};

STOKER_INLINE F32s operator+(F32s a, F32s b) { return {_mm512_add_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator-(F32s a, F32s b) { return {_mm512_sub_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator*(F32s a, F32s b) { return {_mm512_mul_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator/(F32s a, F32s b) { return {_mm512_div_ps(a.v, b.v)}; }
STOKER_INLINE F32s Max(F32s a, F32s b) { return {_mm512_max_ps(a.v, b.v)}; }
STOKER_INLINE F32s Min(F32s a, F32s b) { return {_mm512_min_ps(a.v, b.v)}; }
STOKER_INLINE F32s Fma(F32s a, F32s b, F32s c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

STOKER_INLINE __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

// Fma in the first n < kWidth lanes, c in the others.
STOKER_INLINE F32s FmaPartial(F32s a, F32s b, F32s c, int n) {
  return {_mm512_mask3_fmadd_ps(a.v, b.v, c.v, FirstLanes(n))};
}

// a + b in the first n < kWidth lanes, a in the others.
STOKER_INLINE F32s AddPartial(F32s a, F32s b, int n) {
  return {_mm512_mask_add_ps(a.v, FirstLanes(n), a.v, b.v)};
}

STOKER_INLINE F32s ScaleByTwoTo(F32s p, F32s shifted) {
  const __m512i n =
      _mm512_sub_epi32(_mm512_castps_si512(shifted.v), _mm512_set1_epi32(kRoundToIntegerBits));
  const __m512i half = _mm512_srai_epi32(n, 1);
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512i first = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
  const __m512i second = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, half), bias), 23);
  return {
      _mm512_mul_ps(_mm512_mul_ps(p.v, _mm512_castsi512_ps(first)), _mm512_castsi512_ps(second))};
}

STOKER_INLINE float LargestLane(F32s x) { return _mm512_reduce_max_ps(x.v); }

STOKER_INLINE F32s WidenF16(__m256i x) { return {_mm512_cvtph_ps(x)}; }
STOKER_INLINE F32s WidenBf16(__m256i x) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
}

// kWidth values of kDtype (F32, F16 or BF16) as F32.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElements(const std::byte* p) {
  if constexpr (kDtype == Dtype::kF32) {
    return {_mm512_loadu_ps(p)};
  } else {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(p));
    return kDtype == Dtype::kF16 ? WidenF16(x) : WidenBf16(x);
  }
}

// The first n < kWidth of them, zeros after.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElementsPartial(const std::byte* p, int n) {
  if constexpr (kDtype == Dtype::kF32) {
    return {_mm512_maskz_loadu_ps(FirstLanes(n), p)};
  } else {
    const __m256i x = _mm256_maskz_loadu_epi16(FirstLanes(n), p);
    return kDtype == Dtype::kF16 ? WidenF16(x) : WidenBf16(x);
  }
}

STOKER_INLINE F32s Load(const float* p) { return {_mm512_loadu_ps(p)}; }
STOKER_INLINE void Store(float* p, F32s x) { _mm512_storeu_ps(p, x.v); }
STOKER_INLINE void StorePartial(float* p, F32s x, int n) {
  _mm512_mask_storeu_ps(p, FirstLanes(n), x.v);
}
STOKER_INLINE void StoreF16(uint16_t* p, F32s x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(p),
                      _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// 2 * kWidth values at p: even[i] = p[2i], odd[i] = p[2i + 1].
STOKER_INLINE void LoadPairs(const float* p, F32s& even, F32s& odd) {
  const __m512i evens =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
  const __m512 low = _mm512_loadu_ps(p);
  const __m512 high = _mm512_loadu_ps(p + kWidth);
  even.v = _mm512_permutex2var_ps(low, evens, high);
  odd.v = _mm512_permutex2var_ps(low, odds, high);
}

STOKER_INLINE void StorePairs(float* p, F32s even, F32s odd) {
  const __m512i lows = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i highs = _mm512_add_epi32(lows, _mm512_set1_epi32(8));
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(even.v, lows, odd.v));
  _mm512_storeu_ps(p + kWidth, _mm512_permutex2var_ps(even.v, highs, odd.v));
}

// Two sums whose lanes were folded to 16, to 8 each: a in the lower half, b in the upper.
STOKER_INLINE __m512 FoldTo8(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

// Two results of FoldTo8 (a, b and c, d) to 4 lanes for each of a, b, c, d.
STOKER_INLINE __m512 FoldTo4(__m512 ab, __m512 cd) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

// Totals of eight float dots: totals[r] of lanes[r][0..32).
STOKER_INLINE void FoldEight(const float (*lanes)[32], float* totals) {
  __m512 x[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    x[r] = _mm512_add_ps(_mm512_load_ps(lanes[r]), _mm512_load_ps(lanes[r] + 16));
  }
  const __m512 low = FoldTo4(FoldTo8(x[0], x[1]), FoldTo8(x[2], x[3]));
  const __m512 high = FoldTo4(FoldTo8(x[4], x[5]), FoldTo8(x[6], x[7]));
  // Lanes 0, 1 of each four come from rows 0 to 3, lanes 2, 3 from rows 4 to 7.
  const __m512 two = _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44),  //
                                   _mm512_shuffle_ps(low, high, 0xee));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(totals, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one)));
}

}  // namespace stoker::cpu::STOKER_ISA
