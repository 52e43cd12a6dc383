// Steps of walking weight rows, for AVX2.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/avx2_blocks.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/walk_tile.h"
#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// In each 128-bit lane, that lane's sums of a, b, c and d.
inline __m256i AddLanes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const auto pairs = [](__m256i v, __m256i w) {
    return _mm256_add_epi32(_mm256_unpacklo_epi32(v, w), _mm256_unpackhi_epi32(v, w));
  };
  const __m256i ab = pairs(a, b);
  const __m256i cd = pairs(c, d);
  return _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
}

// The sums of eight vectors.
inline __m256i SumsOf8(const __m256i v[8]) {
  const __m256i low = AddLanes(v[0], v[1], v[2], v[3]);
  const __m256i high = AddLanes(v[4], v[5], v[6], v[7]);
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                          _mm256_permute2x128_si256(low, high, 0x31));
}

// The low words of eight 32-bit lanes as halves.
inline __m256 HalvesToFloats(__m256i lanes) {
  const __m256i words = _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0b10'00);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

// Sums of 32 activations from sums of 16, in every 128-bit lane.
inline __m256i Sums32(const Q8x256Group& x) {
  const __m256i sums32 = _mm256_madd_epi16(Load256(x.sums), _mm256_set1_epi16(1));
  const __m256i packed = _mm256_packs_epi32(sums32, sums32);
  return _mm256_permute4x64_epi64(packed, 0b10'00'10'00);
}

// Word `i` of a lane for every word of it: a shuffle of bytes whose upper halves are zero.
inline __m256i WordOfByte(int i) { return _mm256_set1_epi16(static_cast<short>(0x8000 + i)); }

// Q4_K and Q5_K: block b of eight rows and kCount activation rows into strands[row of x].
template <typename Format, int kCount>
inline void StepWithMinima(const typename Format::Block* const* rows, int64_t b,
                           const Q8x256Group* const* x, __m256* const* strands, const char* ahead) {
  // Vector h holds rows h and 4 + h.
  __m256i headers[4];
  __m256i decoded[4];
  for (int h = 0; h < 4; ++h) {
    headers[h] = LoadHeaders(rows[h][b].header, rows[4 + h][b].header);
    decoded[h] = DecodeHeaders(headers[h]);
  }
  __m256i isums[kCount][kWalkRows];
#pragma GCC unroll 8
  for (int r = 0; r < kWalkRows; ++r) {
    const auto& block = rows[r][b];
    PrefetchShare(ahead + r * static_cast<int64_t>(sizeof(block)), sizeof(block));
    const __m256i pair = decoded[r % 4];
    const __m256i bytes = r < 4 ? _mm256_permute2x128_si256(pair, pair, 0x00)
                                : _mm256_permute2x128_si256(pair, pair, 0x11);
    __m256i sums[kCount];
    for (int j = 0; j < kCount; ++j) sums[j] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const __m256i w = Avx2Blocks<Format>::Chunk(block, c);
      const __m256i scale = _mm256_shuffle_epi8(bytes, WordOfByte(c));
      for (int j = 0; j < kCount; ++j) {
        const __m256i pairs = PairProducts<Format>(w, Load256(x[j][b].q + 32 * c));
        sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(pairs, scale));
      }
    }
    for (int j = 0; j < kCount; ++j) isums[j][r] = sums[j];
  }
  const __m256i words = _mm256_unpacklo_epi64(_mm256_unpacklo_epi32(headers[0], headers[1]),
                                              _mm256_unpacklo_epi32(headers[2], headers[3]));
  const __m256 d = HalvesToFloats(words);
  const __m256 dmin = HalvesToFloats(_mm256_srli_epi32(words, 16));
  for (int j = 0; j < kCount; ++j) {
    const __m256i sums = Sums32(x[j][b]);
    __m256i msums[4];
    for (int h = 0; h < 4; ++h) {
      const __m256i minima = _mm256_unpackhi_epi8(decoded[h], _mm256_setzero_si256());
      msums[h] = _mm256_madd_epi16(minima, sums);
    }
    __m256& s = strands[j][b % 8];
    s = AddScaled(d, x[j][b].d, SumsOf8(isums[j]), s);
    s = SubtractScaled(dmin, x[j][b].d, AddLanes(msums[0], msums[1], msums[2], msums[3]), s);
  }
}

// Q6_K: the same without minima, with signed scales of 16 values each.
template <typename Format, int kCount>
inline void StepWithoutMinima(const typename Format::Block* const* rows, int64_t b,
                              const Q8x256Group* const* x, __m256* const* strands,
                              const char* ahead) {
  __m256i isums[kCount][kWalkRows];
  alignas(16) uint16_t halves[kWalkRows];
#pragma GCC unroll 8
  for (int r = 0; r < kWalkRows; ++r) {
    const auto& block = rows[r][b];
    PrefetchShare(ahead + r * static_cast<int64_t>(sizeof(block)), sizeof(block));
    __builtin_memcpy(&halves[r], block.d, 2);
    const __m256i scales = _mm256_cvtepi8_epi16(Load128(block.scale));
    const __m256i scales_low = _mm256_permute2x128_si256(scales, scales, 0x00);
    const __m256i scales_high = _mm256_permute2x128_si256(scales, scales, 0x11);
    __m256i sums[kCount];
    for (int j = 0; j < kCount; ++j) {
      // Weights are 32 = 2^5 too large.
      const __m256i offset = _mm256_madd_epi16(scales, Load256(x[j][b].sums));
      sums[j] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(offset, 5));
    }
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const __m256i w = Avx2Blocks<Format>::Chunk(block, c);
      // Word 2c for the lower lane's sixteen values, 2c + 1 for the upper's.
      const auto word = [](int i) { return static_cast<short>(2 * i + 256 * (2 * i + 1)); };
      const __m256i places =
          _mm256_set_m128i(_mm_set1_epi16(word((2 * c + 1) % 8)), _mm_set1_epi16(word(2 * c % 8)));
      const __m256i scale = _mm256_shuffle_epi8(c < 4 ? scales_low : scales_high, places);
      for (int j = 0; j < kCount; ++j) {
        const __m256i pairs = PairProducts<Format>(w, Load256(x[j][b].q + 32 * c));
        sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(pairs, scale));
      }
    }
    for (int j = 0; j < kCount; ++j) isums[j][r] = sums[j];
  }
  const __m256 d = _mm256_cvtph_ps(Load128(halves));
  for (int j = 0; j < kCount; ++j) {
    __m256& s = strands[j][b % 8];
    s = AddScaled(d, x[j][b].d, SumsOf8(isums[j]), s);
  }
}

// Rows that formats of 32-blocks are walked at once.
inline constexpr int kBlockRows = 1;

// Eight blocks of a row and kCount activation rows into strands, blocks in lanes.
template <typename Format, int kCount>
inline void StepOfBlocks(const typename Format::Block* blocks, const Q8x32Group* const* x,
                         int64_t g, __m256* strands) {
  __m256i sums[kCount][8];
  alignas(16) uint16_t halves[8];
#pragma GCC unroll 8
  for (int b = 0; b < 8; ++b) {
    const __m256i w = Avx2Blocks<Format>::Chunk(blocks[b]);
    __builtin_memcpy(&halves[b], blocks[b].d, 2);
    for (int j = 0; j < kCount; ++j) {
      const __m256i pairs = PairProducts<Format>(w, Load256(x[j][g].q + 32 * b));
      sums[j][b] = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
  }
  const __m256 dw = _mm256_cvtph_ps(Load128(halves));
  for (int j = 0; j < kCount; ++j) {
    __m256i isum = SumsOf8(sums[j]);
    if constexpr (!Avx2Blocks<Format>::kSigned) {
      const __m256i offset =
          _mm256_slli_epi32(Load256(x[j][g].sums), Avx2Blocks<Format>::kOffsetBits);
      isum = _mm256_sub_epi32(isum, offset);
    }
    const __m256 scale = _mm256_mul_ps(dw, _mm256_loadu_ps(x[j][g].d));
    strands[j] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(isum), strands[j]);
  }
}

// The same for a whole row, into out.
template <typename Format, int kCount>
void WalkBlockRows(const MatmulArgs& args, int64_t row, int64_t first_x) {
  using Block = typename Format::Block;
  const int64_t block_count = args.w.cols / 32;
  const int64_t group_count = block_count / 8;
  const Block* blocks = reinterpret_cast<const Block*>(args.w.data) + row * block_count;
  const Q8x32Group* x[kCount];
  __m256 strands[kCount];
  for (int j = 0; j < kCount; ++j) {
    x[j] = reinterpret_cast<const Q8x32Group*>(args.x[first_x + j]);
    strands[j] = _mm256_setzero_ps();
  }
  constexpr int64_t kStepBytes = 8 * sizeof(Block);
  for (int64_t g = 0; g < group_count; ++g) {
    PrefetchShare(Ahead(blocks, group_count * kStepBytes, g * kStepBytes), kStepBytes);
    StepOfBlocks<Format, kCount>(blocks + 8 * g, x, g, strands);
  }
  if (block_count % 8 != 0) {
    // The rest of the row, completed by blocks of zero scale, whose products add nothing.
    Block rest[8] = {};
    __builtin_memcpy(rest, blocks + 8 * group_count,
                     static_cast<size_t>(block_count % 8) * sizeof(Block));
    StepOfBlocks<Format, kCount>(rest, x, group_count, strands);
  }
  for (int j = 0; j < kCount; ++j) {
    alignas(32) float s[8];
    _mm256_store_ps(s, strands[j]);
    const float even = (s[0] + s[4]) + (s[2] + s[6]);
    const float odd = (s[1] + s[5]) + (s[3] + s[7]);
    args.out[first_x + j][row] = even + odd;
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
