// Takes stored blocks apart for AVX2: weights as bytes, 32 at a time, scales and minima as vectors.
#pragma once

#include <immintrin.h>

#include "kernels/formats/formats.h"
#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m128i Load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

// Two headers of Q4_K or Q5_K, one in each 128-bit lane.
inline __m256i LoadHeaders(const KHeader& low, const KHeader& high) {
  return _mm256_set_m128i(Load128(&high), Load128(&low));
}

// Headers to 16 bytes in each lane: eight scales, eight minima. A header's words are (d, dmin),
// a, b, c; bytes of the result: a & 63, (c & 15) | (a >> 2 & 48), b & 63, (c >> 4) | (b >> 2 & 48).
inline __m256i DecodeHeaders(__m256i headers) {
  const auto lanes = [](int i0, int i1, int i2, int i3) {
    return _mm256_set_epi32(i3, i2, i1, i0, i3, i2, i1, i0);
  };
  const __m256i acbc = _mm256_shuffle_epi32(headers, 0b11'10'11'01);
  const __m256i aabb = _mm256_shuffle_epi32(headers, 0b10'10'01'01);
  const __m256i low = _mm256_and_si256(_mm256_srlv_epi32(acbc, lanes(0, 0, 0, 4)),
                                       lanes(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
  const __m256i high =
      _mm256_and_si256(_mm256_srli_epi32(aabb, 2), lanes(0, 0x30303030, 0, 0x30303030));
  return _mm256_or_si256(low, high);
}

inline __m256i LowNibbles(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
inline __m256i HighNibbles(__m256i bytes) { return LowNibbles(_mm256_srli_epi16(bytes, 4)); }

// The bits of `mask` of each byte shifted left by `count`, which may be negative.
inline __m256i ShiftedBits(__m256i bytes, int count, char mask) {
  const __m256i shifted =
      count < 0 ? _mm256_srli_epi16(bytes, -count) : _mm256_slli_epi16(bytes, count);
  return _mm256_and_si256(shifted, _mm256_set1_epi8(mask));
}

// Chunk: values 32c to 32c + 31 of a block as unsigned bytes (Q6_K: 32 more than they are).
// kSteps: how often four values' products, added in pairs, fit a sum of 16 bits.
template <typename Format>
struct Avx2Blocks;

template <>
struct Avx2Blocks<Q4_K> {
  static constexpr int kSteps = 8;  // of 2 * 15 * 127
  static __m256i Chunk(const Q4_K::Block& block, int c) {
    const __m256i bytes = Load256(block.q + 32 * (c / 2));
    return c % 2 == 0 ? LowNibbles(bytes) : HighNibbles(bytes);
  }
};

template <>
struct Avx2Blocks<Q5_K> {
  static constexpr int kSteps = 4;  // of 2 * 31 * 127
  static __m256i Chunk(const Q5_K::Block& block, int c) {
    const __m256i bytes = Load256(block.q + 32 * (c / 2));
    const __m256i low = c % 2 == 0 ? LowNibbles(bytes) : HighNibbles(bytes);
    return _mm256_or_si256(low, ShiftedBits(Load256(block.high), 4 - c, 16));
  }
};

template <>
struct Avx2Blocks<Q6_K> {
  static constexpr int kSteps = 2;  // of 2 * 63 * 127
  static __m256i Chunk(const Q6_K::Block& block, int c) {
    const __m256i bytes = Load256(block.low + 64 * (c / 4) + 32 * (c % 2));
    const __m256i low = c % 4 < 2 ? LowNibbles(bytes) : HighNibbles(bytes);
    const __m256i high = Load256(block.high + 32 * (c / 4));
    return _mm256_or_si256(low, ShiftedBits(high, 4 - 2 * (c % 4), 48));
  }
};

// Formats of 32-blocks: Chunk is the whole block, unsigned bytes 2^kOffsetBits more than they are
// unless kSigned.
template <>
struct Avx2Blocks<Q4_0> {
  static constexpr bool kSigned = false;
  static constexpr int kOffsetBits = 3;
  static constexpr int kSteps = 8;
  static __m256i Chunk(const Q4_0::Block& block) {
    const __m128i bytes = Load128(block.q);
    return LowNibbles(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes));
  }
};

// Bytes of either sign: an offset of 128 would make sums of pairs too large for 16 bits.
template <>
struct Avx2Blocks<Q8_0> {
  static constexpr bool kSigned = true;
  static constexpr int kOffsetBits = 0;
  static constexpr int kSteps = 1;  // of 2 * 128 * 127
  static __m256i Chunk(const Q8_0::Block& block) { return Load256(block.q); }
};

// Sums of pairs of products in 16 bits.
template <typename Format>
inline __m256i PairProducts(__m256i w, __m256i x) {
  if constexpr (Format::kDtype == Dtype::kQ8_0) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  } else {
    return _mm256_maddubs_epi16(w, x);
  }
}

inline float HalfToFloat(const uint8_t* p) {
  return _cvtsh_ss(static_cast<uint16_t>(p[0] | (p[1] << 8)));
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
