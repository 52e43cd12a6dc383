// What walking weight rows shares over instruction sets of 256 bits and more.
#pragma once

#include <immintrin.h>

#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// Rows of K-quants that are walked at once. Sums, scales and strands keep rows in lanes.
inline constexpr int kWalkRows = 8;

// s = fma(dw * dx, isum, s)
inline __m256 AddScaled(__m256 dw, float dx, __m256i isum, __m256 s) {
  return _mm256_fmadd_ps(_mm256_mul_ps(dw, _mm256_set1_ps(dx)), _mm256_cvtepi32_ps(isum), s);
}
// s = fma(-(dmin * dx), msum, s)
inline __m256 SubtractScaled(__m256 dmin, float dx, __m256i msum, __m256 s) {
  return _mm256_fnmadd_ps(_mm256_mul_ps(dmin, _mm256_set1_ps(dx)), _mm256_cvtepi32_ps(msum), s);
}

// The strands of eight rows added in the order of the contract.
inline __m256 SumOfStrands(const __m256 s[8]) {
  const __m256 even = _mm256_add_ps(_mm256_add_ps(s[0], s[4]), _mm256_add_ps(s[2], s[6]));
  const __m256 odd = _mm256_add_ps(_mm256_add_ps(s[1], s[5]), _mm256_add_ps(s[3], s[7]));
  return _mm256_add_ps(even, odd);
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
