// Takes stored blocks apart for AVX-512: weights as unsigned bytes, scales and minima as vectors.
#pragma once

#include <immintrin.h>

#include "kernels/formats/formats.h"
#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

inline __m512i Broadcast256(const void* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

// The order in which Unpack gives the 256 values of a group.
enum class ValueOrder : uint8_t {
  kNatural,  // vector i holds values 64i to 64i + 63
  kSplit     // sub-blocks of 32: vector 0 is [0 | 2], 1 is [1 | 3], 2 is [4 | 6], 3 is [5 | 7]
};

// Lays a group of activations out in the order of the weights.
template <ValueOrder order>
inline void LoadActivations(const int8_t* q, __m512i x[4]) {
  for (int i = 0; i < 4; ++i) {
    if constexpr (order == ValueOrder::kNatural) {
      x[i] = _mm512_load_si512(q + 64 * i);
    } else {
      const int8_t* first = q + 128 * (i / 2) + 32 * (i % 2);
      const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(first));
      const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(first + 64));
      x[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
  }
}

// Stores unpacked weights in natural order.
template <ValueOrder order>
inline void StoreNatural(const __m512i u[4], uint8_t* q) {
  for (int i = 0; i < 4; ++i) {
    if constexpr (order == ValueOrder::kNatural) {
      _mm512_store_si512(q + 64 * i, u[i]);
    } else {
      uint8_t* first = q + 128 * (i / 2) + 32 * (i % 2);
      _mm256_store_si256(reinterpret_cast<__m256i*>(first), _mm512_castsi512_si256(u[i]));
      _mm256_store_si256(reinterpret_cast<__m256i*>(first + 64),
                         _mm512_extracti64x4_epi64(u[i], 1));
    }
  }
}

// Low and high nibbles of 128 bytes: vectors 0 and 2, 1 and 3.
inline void UnpackNibbles(const uint8_t* q, __m512i u[4]) {
  const __m512i low = _mm512_set1_epi8(15);
  for (int h = 0; h < 2; ++h) {
    const __m512i bytes = _mm512_loadu_si512(q + 64 * h);
    u[2 * h] = _mm512_and_si512(bytes, low);
    u[2 * h + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
  }
}

// Rotates the two halves of `bytes` by their own counts and merges the bits of `mask` into u.
inline __m512i MergeBits(__m512i u, __m512i bytes, int low_count, int high_count, char mask) {
  const __m512i counts = _mm512_set_epi64(high_count, high_count, high_count, high_count, low_count,
                                          low_count, low_count, low_count);
  // u | (rotated & mask)
  return _mm512_ternarylogic_epi64(u, _mm512_rolv_epi64(bytes, counts), _mm512_set1_epi8(mask),
                                   0xf8);
}

// Four headers of Q4_K or Q5_K, one in each 128-bit lane.
inline __m512i LoadHeaders(const KHeader* h0, const KHeader* h1, const KHeader* h2,
                           const KHeader* h3) {
  const auto load = [](const KHeader* h) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(h));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(h0)), load(h1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(h2)), load(h3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Headers to 16 bytes in each lane: eight scales, eight minima. A header's words are (d, dmin),
// a, b, c; bytes of the result: a & 63, (c & 15) | (a >> 2 & 48), b & 63, (c >> 4) | (b >> 2 & 48).
inline __m512i DecodeHeaders(__m512i headers) {
  const auto lanes = [](int i0, int i1, int i2, int i3) {
    return _mm512_set_epi32(i3, i2, i1, i0, i3, i2, i1, i0, i3, i2, i1, i0, i3, i2, i1, i0);
  };
  const __m512i acbc = _mm512_shuffle_epi32(headers, static_cast<_MM_PERM_ENUM>(0b11'10'11'01));
  const __m512i aabb = _mm512_shuffle_epi32(headers, static_cast<_MM_PERM_ENUM>(0b10'10'01'01));
  const __m512i low = _mm512_and_si512(_mm512_srlv_epi32(acbc, lanes(0, 0, 0, 4)),
                                       lanes(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
  return _mm512_ternarylogic_epi64(low, _mm512_srli_epi32(aabb, 2),
                                   lanes(0, 0x30303030, 0, 0x30303030), 0xf8);
}

// Unpack: one group of 256 weights as unsigned bytes; where values are signed, an offset more than
// they are: 32 for Q6_K, 2^kOffsetBits for formats of 32-blocks.
template <typename Format>
struct Avx512Blocks;

template <>
struct Avx512Blocks<Q4_K> {
  static constexpr ValueOrder kOrder = ValueOrder::kSplit;
  static void Unpack(const Q4_K::Block& block, __m512i u[4]) { UnpackNibbles(block.q, u); }
};

template <>
struct Avx512Blocks<Q5_K> {
  static constexpr ValueOrder kOrder = ValueOrder::kSplit;
  static void Unpack(const Q5_K::Block& block, __m512i u[4]) {
    const __m512i high = Broadcast256(block.high);
    UnpackNibbles(block.q, u);
    // Bit j of a byte to bit 4: sub-blocks 0 | 2, 1 | 3, 4 | 6, 5 | 7.
    u[0] = MergeBits(u[0], high, 4, 2, 16);
    u[1] = MergeBits(u[1], high, 3, 1, 16);
    u[2] = MergeBits(u[2], high, 0, 62, 16);
    u[3] = MergeBits(u[3], high, 63, 61, 16);
  }
};

template <>
struct Avx512Blocks<Q6_K> {
  static constexpr ValueOrder kOrder = ValueOrder::kNatural;
  static void Unpack(const Q6_K::Block& block, __m512i u[4]) {
    UnpackNibbles(block.low, u);
    for (int h = 0; h < 2; ++h) {
      // Bit pair k of a byte to bits 4 and 5: pairs 0 | 1, then 2 | 3.
      const __m512i high = Broadcast256(block.high + 32 * h);
      u[2 * h] = MergeBits(u[2 * h], high, 4, 2, 48);
      u[2 * h + 1] = MergeBits(u[2 * h + 1], high, 0, 62, 48);
    }
  }
};

// Formats of 32-blocks unpack a whole group of eight blocks: vector i is blocks 2i and 2i + 1.
// Scales gives the eight half scales in the order 0, 2, 4, 6, 1, 3, 5, 7.
inline __m128i GatherHalves(const std::byte* p, int stride) {
  // Each load holds the scales of two blocks: words 0 and stride / 2. The last load may reach to
  // 3 * 2 * stride + 64 <= 8 * stride bytes, or is masked.
  const __mmask32 both = (__mmask32{1} << (stride / 2)) | 1;
  const auto load = [&](int i) { return _mm512_maskz_loadu_epi16(both, p + 2 * stride * i); };
  const auto s = static_cast<short>(stride / 2);
  const __m512i pair =
      _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                       0, 0, static_cast<short>(32 + s), s, 32, 0);
  const __m512i d0123 = _mm512_permutex2var_epi16(load(0), pair, load(1));
  const __m512i d4567 = _mm512_permutex2var_epi16(load(2), pair, load(3));
  // Words 0, 2, 1, 3 and 4, 6, 5, 7.
  return _mm_unpacklo_epi32(_mm512_castsi512_si128(d0123), _mm512_castsi512_si128(d4567));
}

template <>
struct Avx512Blocks<Q8_0> {
  static constexpr ValueOrder kOrder = ValueOrder::kNatural;
  static constexpr int kOffsetBits = 7;
  static void Unpack(const Q8_0::Block* blocks, __m512i u[4]) {
    for (int i = 0; i < 4; ++i) {
      const auto load = [](const Q8_0::Block& block) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.q));
      };
      const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(load(blocks[2 * i])),
                                              load(blocks[2 * i + 1]), 1);
      u[i] = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
    }
  }
};

template <>
struct Avx512Blocks<Q4_0> {
  static constexpr ValueOrder kOrder = ValueOrder::kNatural;
  static constexpr int kOffsetBits = 3;
  static void Unpack(const Q4_0::Block* blocks, __m512i u[4]) {
    // Words 1 to 8 of two blocks (of 9 words each), each twice: for low and for high nibbles.
    const __m512i words = _mm512_set_epi16(17, 16, 15, 14, 13, 12, 11, 10, 17, 16, 15, 14, 13, 12,
                                           11, 10, 8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m512i shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    for (int i = 0; i < 4; ++i) {
      const __m512i bytes = _mm512_maskz_loadu_epi16(0x3ffff, blocks + 2 * i);
      const __m512i twice = _mm512_permutexvar_epi16(words, bytes);
      u[i] = _mm512_and_si512(_mm512_srlv_epi64(twice, shifts), _mm512_set1_epi8(15));
    }
  }
};

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
