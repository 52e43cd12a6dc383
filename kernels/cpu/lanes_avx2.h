// F32s on AVX2 with FMA and F16C. Included by kernels/cpu/lanes.h only.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {

inline constexpr int kWidth = 8;

struct F32s {
  __m256 v;

  [[gnu::always_inline]] static F32s Broadcast(float x) { return {_mm256_set1_ps(x)}; }
};

STOKER_INLINE F32s operator+(F32s a, F32s b) { return {_mm256_add_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator-(F32s a, F32s b) { return {_mm256_sub_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator*(F32s a, F32s b) { return {_mm256_mul_ps(a.v, b.v)}; }
STOKER_INLINE F32s operator/(F32s a, F32s b) { return {_mm256_div_ps(a.v, b.v)}; }
STOKER_INLINE F32s Max(F32s a, F32s b) { return {_mm256_max_ps(a.v, b.v)}; }
STOKER_INLINE F32s Min(F32s a, F32s b) { return {_mm256_min_ps(a.v, b.v)}; }
STOKER_INLINE F32s Fma(F32s a, F32s b, F32s c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

STOKER_INLINE __m256i FirstLanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Fma in the first n < kWidth lanes, c in the others.
STOKER_INLINE F32s FmaPartial(F32s a, F32s b, F32s c, int n) {
  return {_mm256_blendv_ps(c.v, Fma(a, b, c).v, _mm256_castsi256_ps(FirstLanes(n)))};
}

// a + b in the first n < kWidth lanes, a in the others.
STOKER_INLINE F32s AddPartial(F32s a, F32s b, int n) {
  return {_mm256_blendv_ps(a.v, (a + b).v, _mm256_castsi256_ps(FirstLanes(n)))};
}

STOKER_INLINE F32s ScaleByTwoTo(F32s p, F32s shifted) {
  const __m256i n =
      _mm256_sub_epi32(_mm256_castps_si256(shifted.v), _mm256_set1_epi32(kRoundToIntegerBits));
  const __m256i half = _mm256_srai_epi32(n, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23);
  return {
      _mm256_mul_ps(_mm256_mul_ps(p.v, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second))};
}

STOKER_INLINE float LargestLane(F32s x) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

STOKER_INLINE F32s WidenF16(__m128i x) { return {_mm256_cvtph_ps(x)}; }
STOKER_INLINE F32s WidenBf16(__m128i x) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))};
}

// kWidth values of kDtype (F32, F16 or BF16) as F32.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElements(const std::byte* p) {
  if constexpr (kDtype == Dtype::kF32) {
    return {_mm256_loadu_ps(reinterpret_cast<const float*>(p))};
  } else {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(p));
    return kDtype == Dtype::kF16 ? WidenF16(x) : WidenBf16(x);
  }
}

// The first n < kWidth of them, zeros after.
template <Dtype kDtype>
STOKER_INLINE F32s LoadElementsPartial(const std::byte* p, int n) {
  if constexpr (kDtype == Dtype::kF32) {
    return {_mm256_maskload_ps(reinterpret_cast<const float*>(p), FirstLanes(n))};
  } else {
    alignas(16) uint16_t values[kWidth] = {};
    __builtin_memcpy(values, p, static_cast<size_t>(n) * sizeof(uint16_t));
    return LoadElements<kDtype>(reinterpret_cast<const std::byte*>(values));
  }
}

STOKER_INLINE F32s Load(const float* p) { return {_mm256_loadu_ps(p)}; }
STOKER_INLINE void Store(float* p, F32s x) { _mm256_storeu_ps(p, x.v); }
STOKER_INLINE void StorePartial(float* p, F32s x, int n) {
  _mm256_maskstore_ps(p, FirstLanes(n), x.v);
}
STOKER_INLINE void StoreF16(uint16_t* p, F32s x) {
  _mm_storeu_si128(reinterpret_cast<__m128i_u*>(p),
                   _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// 2 * kWidth values at p: even[i] = p[2i], odd[i] = p[2i + 1].
STOKER_INLINE void LoadPairs(const float* p, F32s& even, F32s& odd) {
  const __m256 low = _mm256_loadu_ps(p);
  const __m256 high = _mm256_loadu_ps(p + kWidth);
  const __m256 first = _mm256_permute2f128_ps(low, high, 0x20);
  const __m256 second = _mm256_permute2f128_ps(low, high, 0x31);
  even.v = _mm256_shuffle_ps(first, second, 0x88);
  odd.v = _mm256_shuffle_ps(first, second, 0xdd);
}

STOKER_INLINE void StorePairs(float* p, F32s even, F32s odd) {
  const __m256 low = _mm256_unpacklo_ps(even.v, odd.v);
  const __m256 high = _mm256_unpackhi_ps(even.v, odd.v);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(p + kWidth, _mm256_permute2f128_ps(low, high, 0x31));
}

// Two sums whose lanes were folded to 8, to 4 each: a in the lower half, b in the upper.
STOKER_INLINE __m256 FoldTo4(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// Two results of FoldTo4 to 2 lanes a row.
STOKER_INLINE __m256 FoldTo2(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
}

// Totals of eight float dots: totals[r] of lanes[r][0..32).
STOKER_INLINE void FoldEight(const float (*lanes)[32], float* totals) {
  __m256 x[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    x[r] =
        _mm256_add_ps(_mm256_add_ps(_mm256_load_ps(lanes[r]), _mm256_load_ps(lanes[r] + 16)),
                      _mm256_add_ps(_mm256_load_ps(lanes[r] + 8), _mm256_load_ps(lanes[r] + 24)));
  }
  // Rows 0, 1, 2, 3 go to the lower half, rows 4 to 7 to the upper.
  const __m256 two_a = FoldTo2(FoldTo4(x[0], x[4]), FoldTo4(x[1], x[5]));
  const __m256 two_b = FoldTo2(FoldTo4(x[2], x[6]), FoldTo4(x[3], x[7]));
  _mm256_storeu_ps(totals, _mm256_add_ps(_mm256_shuffle_ps(two_a, two_b, 0x88),
                                         _mm256_shuffle_ps(two_a, two_b, 0xdd)));
}

}  // namespace stoker::cpu::STOKER_ISA
