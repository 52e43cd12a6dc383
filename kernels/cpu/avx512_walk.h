// Steps of walking weight rows, for AVX-512 with VNNI.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/avx512_blocks.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/walk_tile.h"
#include "kernels/ops.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// Sums of neighbouring vectors: [a01 b01 a23 b23] in each 128-bit lane, of a and b.
inline __m512i AddPairs(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

// In each 128-bit lane, that lane's sums of a, b, c and d.
inline __m512i AddLanes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = AddPairs(a, b);
  const __m512i cd = AddPairs(c, d);
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// Lanes [a0 + a1, a2 + a3, b0 + b1, b2 + b3].
inline __m512i AddNeighbourLanes(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

// The sums of eight vectors.
inline __m256i SumsOf8(const __m512i v[8]) {
  const __m512i halves =
      AddNeighbourLanes(AddLanes(v[0], v[1], v[2], v[3]), AddLanes(v[4], v[5], v[6], v[7]));
  return _mm512_castsi512_si256(AddNeighbourLanes(halves, halves));
}

// The sum of a superblock's products, spread over sixteen lanes. `scales` fit the packed sums of
// vectors 0 and 1, and of 2 and 3.
inline __m512i DotSuperblock(const __m512i u[4], const __m512i x[4], const __m512i scales[2]) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i p[4];
  for (int i = 0; i < 4; ++i) p[i] = _mm512_dpbusd_epi32(zero, u[i], x[i]);
  // Sums of four products, at most 4 * 63 * 127 < 2^15, fit 16 bits.
  const __m512i first = _mm512_madd_epi16(_mm512_packs_epi32(p[0], p[1]), scales[0]);
  return _mm512_dpwssd_epi32(first, _mm512_packs_epi32(p[2], p[3]), scales[1]);
}

// What eight rows' blocks hold beside their weights, rows in lanes.
struct RowScales {
  __m256 d;
  __m256 dmin;
};

inline __m256 HalvesToFloats(__m256i words) {
  return _mm256_cvtph_ps(_mm256_cvtepi32_epi16(words));
}

inline RowScales ScalesOfHeaders(__m512i rows0to3, __m512i rows4to7) {
  const __m512i first = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 28, 24, 20, 16, 12, 8, 4, 0);
  const __m256i both = _mm512_castsi512_si256(_mm512_permutex2var_epi32(rows0to3, first, rows4to7));
  return {.d = HalvesToFloats(both), .dmin = HalvesToFloats(_mm256_srli_epi32(both, 16))};
}

// Sums of 32 activations from sums of 16, in every 128-bit lane.
inline __m512i Sums32(const Q8x256Group& x) {
  const __m256i sums16 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.sums));
  const __m256i sums32 = _mm256_madd_epi16(sums16, _mm256_set1_epi16(1));
  return _mm512_broadcast_i32x4(_mm256_cvtepi32_epi16(sums32));
}

// Rows of two vectors whose 128-bit lane k holds parts of row k, and of row 4 + k.
inline __m256i SumsOfLanes(__m512i rows0to3, __m512i rows4to7) {
  const __m512i pairs = AddPairs(rows0to3, rows4to7);
  const __m512i sums =
      _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, static_cast<_MM_PERM_ENUM>(0x4e)));
  const __m512i rows = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi32(rows, sums));
}

// Q4_K and Q5_K: block b of eight rows and kCount activation rows into strands[row of x].
template <typename Format, int kCount>
inline void StepWithMinima(const typename Format::Block* const* rows, int64_t b,
                           const Q8x256Group* const* x, __m256* const* strands, const char* ahead) {
  using Blocks = Avx512Blocks<Format>;
  __m512i activations[kCount][4];
  for (int j = 0; j < kCount; ++j) LoadActivations<Blocks::kOrder>(x[j][b].q, activations[j]);

  __m512i headers[2];
  __m512i decoded[2];
  for (int h = 0; h < 2; ++h) {
    headers[h] = LoadHeaders(&rows[4 * h][b].header, &rows[4 * h + 1][b].header,
                             &rows[4 * h + 2][b].header, &rows[4 * h + 3][b].header);
    decoded[h] = DecodeHeaders(headers[h]);
  }
  __m512i isums[kCount][kWalkRows];
#pragma GCC unroll 8
  for (int r = 0; r < kWalkRows; ++r) {
    PrefetchShare(ahead + r * static_cast<int64_t>(sizeof(rows[r][b])), sizeof(rows[r][b]));
    __m512i u[4];
    Blocks::Unpack(rows[r][b], u);
    // This row's scales as words, each four times: those of vectors 0 and 1 in turn.
    const __m512i bytes = decoded[r / 4];
    const __m512i row = r % 4 == 0   ? _mm512_shuffle_i32x4(bytes, bytes, 0x00)
                        : r % 4 == 1 ? _mm512_shuffle_i32x4(bytes, bytes, 0x55)
                        : r % 4 == 2 ? _mm512_shuffle_i32x4(bytes, bytes, 0xaa)
                                     : _mm512_shuffle_i32x4(bytes, bytes, 0xff);
    const auto words = [](int first) {
      const auto pair = [](int i) { return 0x8000800080008000ull + 0x0001000100010001ull * i; };
      const auto w = [&](int i) { return static_cast<long long>(pair(i)); };
      return _mm512_set_epi64(w(first + 3), w(first + 2), w(first + 3), w(first + 2), w(first + 1),
                              w(first), w(first + 1), w(first));
    };
    const __m512i scales[2] = {_mm512_shuffle_epi8(row, words(0)),
                               _mm512_shuffle_epi8(row, words(4))};
    for (int j = 0; j < kCount; ++j) {
      isums[j][r] = DotSuperblock(u, activations[j], scales);
    }
  }
  const RowScales scales = ScalesOfHeaders(headers[0], headers[1]);
  const __m512i zero = _mm512_setzero_si512();
  for (int j = 0; j < kCount; ++j) {
    const __m512i sums = Sums32(x[j][b]);
    const __m256i msum =
        SumsOfLanes(_mm512_madd_epi16(_mm512_unpackhi_epi8(decoded[0], zero), sums),
                    _mm512_madd_epi16(_mm512_unpackhi_epi8(decoded[1], zero), sums));
    __m256& s = strands[j][b % 8];
    s = AddScaled(scales.d, x[j][b].d, SumsOf8(isums[j]), s);
    s = SubtractScaled(scales.dmin, x[j][b].d, msum, s);
  }
}

// Q6_K: the same without minima, with signed scales of 16 values each.
template <typename Format, int kCount>
inline void StepWithoutMinima(const typename Format::Block* const* rows, int64_t b,
                              const Q8x256Group* const* x, __m256* const* strands,
                              const char* ahead) {
  using Blocks = Avx512Blocks<Format>;
  __m512i activations[kCount][4];
  __m256i sums[kCount];
  for (int j = 0; j < kCount; ++j) {
    LoadActivations<Blocks::kOrder>(x[j][b].q, activations[j]);
    sums[j] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x[j][b].sums));
  }
  // Lane k of packed vectors 0 and 1 holds sub-blocks k and 4 + k; of 2 and 3, 8 + k and 12 + k.
  const __m512i words0 = _mm512_set_epi16(7, 7, 7, 7, 3, 3, 3, 3, 6, 6, 6, 6, 2, 2, 2, 2, 5, 5, 5,
                                          5, 1, 1, 1, 1, 4, 4, 4, 4, 0, 0, 0, 0);
  const __m512i words1 = _mm512_add_epi16(words0, _mm512_set1_epi16(8));
  __m512i isums[kCount][kWalkRows];
  alignas(16) uint16_t halves[kWalkRows];
#pragma GCC unroll 8
  for (int r = 0; r < kWalkRows; ++r) {
    const auto& block = rows[r][b];
    PrefetchShare(ahead + r * static_cast<int64_t>(sizeof(block)), sizeof(block));
    __m512i u[4];
    Blocks::Unpack(block, u);
    const __m256i scale =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scale)));
    const __m512i wide = _mm512_castsi256_si512(scale);
    const __m512i scales[2] = {_mm512_permutexvar_epi16(words0, wide),
                               _mm512_permutexvar_epi16(words1, wide)};
    __builtin_memcpy(&halves[r], block.d, 2);
    for (int j = 0; j < kCount; ++j) {
      const __m512i dot = DotSuperblock(u, activations[j], scales);
      // Weights were 32 = 2^5 too large.
      const __m256i offset = _mm256_slli_epi32(_mm256_madd_epi16(scale, sums[j]), 5);
      isums[j][r] = _mm512_sub_epi32(dot, _mm512_zextsi256_si512(offset));
    }
  }
  const __m256 d = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(halves)));
  for (int j = 0; j < kCount; ++j) {
    __m256& s = strands[j][b % 8];
    s = AddScaled(d, x[j][b].d, SumsOf8(isums[j]), s);
  }
}

// A group of 256 weights of two rows of a format of 32-blocks: its eight sums a row in the order
// 0, 2, 4, 6, 1, 3, 5, 7, the first row's in the lower half.
inline __m512i DotsOfTwoRows(const __m512i u[2][4], const __m512i x[4]) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i sums[2];
  for (int r = 0; r < 2; ++r) {
    __m512i p[4];
    for (int i = 0; i < 4; ++i) p[i] = _mm512_dpbusd_epi32(zero, u[r][i], x[i]);
    sums[r] = AddLanes(p[0], p[1], p[2], p[3]);
  }
  return AddNeighbourLanes(sums[0], sums[1]);
}

inline __m512i EvenThenOdd(const void* eight) {
  const __m512i order = _mm512_set_epi32(7, 5, 3, 1, 6, 4, 2, 0, 7, 5, 3, 1, 6, 4, 2, 0);
  return _mm512_permutexvar_epi32(order, Broadcast256(eight));
}

// Group g of two rows and kCount activation rows into strands, ordered as DotsOfTwoRows says.
template <typename Format, int kCount>
inline void StepOfBlocks(const typename Format::Block* const row[2], const Q8x32Group* const* x,
                         int64_t g, __m512* strands) {
  using Blocks = Avx512Blocks<Format>;
  constexpr int kStride = sizeof(typename Format::Block);
  __m512i u[2][4];
  __m128i halves[2];
  for (int r = 0; r < 2; ++r) {
    Blocks::Unpack(row[r], u[r]);
    halves[r] = GatherHalves(reinterpret_cast<const std::byte*>(row[r]), kStride);
  }
  const __m512 dw = _mm512_cvtph_ps(_mm256_set_m128i(halves[1], halves[0]));
  for (int j = 0; j < kCount; ++j) {
    const Q8x32Group& group = x[j][g];
    __m512i activations[4];
    LoadActivations<Blocks::kOrder>(group.q, activations);
    const __m512i offset = _mm512_slli_epi32(EvenThenOdd(group.sums), Blocks::kOffsetBits);
    const __m512i isum = _mm512_sub_epi32(DotsOfTwoRows(u, activations), offset);
    const __m512 dx = _mm512_castsi512_ps(EvenThenOdd(group.d));
    strands[j] = _mm512_fmadd_ps(_mm512_mul_ps(dw, dx), _mm512_cvtepi32_ps(isum), strands[j]);
  }
}

// Rows that formats of 32-blocks are walked at once.
inline constexpr int kBlockRows = 2;

// The same for a whole two rows, into out.
template <typename Format, int kCount>
void WalkBlockRows(const MatmulArgs& args, int64_t first, int64_t first_x) {
  using Block = typename Format::Block;
  const int64_t block_count = args.w.cols / 32;
  const int64_t second = first + 1 < args.row_end ? first + 1 : first;
  const auto* blocks = reinterpret_cast<const Block*>(args.w.data);
  const Block* rows[2] = {blocks + first * block_count, blocks + second * block_count};
  const Q8x32Group* x[kCount];
  __m512 strands[kCount];
  for (int j = 0; j < kCount; ++j) {
    x[j] = reinterpret_cast<const Q8x32Group*>(args.x[first_x + j]);
    strands[j] = _mm512_setzero_ps();
  }
  const int64_t group_count = block_count / 8;
  constexpr int64_t kStepBytes = 2 * 8 * sizeof(Block);
  for (int64_t g = 0; g < group_count; ++g) {
    PrefetchShare(Ahead(rows[0], group_count * kStepBytes, g * kStepBytes), kStepBytes);
    const Block* group[2] = {rows[0] + 8 * g, rows[1] + 8 * g};
    StepOfBlocks<Format, kCount>(group, x, g, strands);
  }
  if (block_count % 8 != 0) {
    // The rest of the rows, completed by blocks of zero, whose products add nothing.
    Block rest[2][8] = {};
    const auto bytes = static_cast<size_t>(block_count % 8) * sizeof(Block);
    for (int r = 0; r < 2; ++r) __builtin_memcpy(rest[r], rows[r] + 8 * group_count, bytes);
    const Block* group[2] = {rest[0], rest[1]};
    StepOfBlocks<Format, kCount>(group, x, group_count, strands);
  }
  for (int j = 0; j < kCount; ++j) {
    alignas(64) float s[2][8];
    _mm512_store_ps(&s[0][0], strands[j]);
    for (int r = 0; r < 2; ++r) {
      const float even = (s[r][0] + s[r][2]) + (s[r][1] + s[r][3]);
      const float odd = (s[r][4] + s[r][6]) + (s[r][5] + s[r][7]);
      args.out[first_x + j][r == 0 ? first : second] = even + odd;
    }
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
