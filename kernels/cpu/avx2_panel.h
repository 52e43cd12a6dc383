// Steps of multiplying a tile of weight rows with panels, for AVX2: two weight rows by sixteen
// activation rows in registers.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/avx2_blocks.h"
#include "kernels/cpu/panel_tile.h"
#include "kernels/panel.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

inline constexpr int kRowsInRegisters = 2;

inline __m256i BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

inline __m256 StrandOrZero(const float* s, bool first) {
  return first ? _mm256_setzero_ps() : _mm256_load_ps(s);
}

template <typename Format>
inline void UnpackGroup(const typename Format::Block* row, int64_t g, int64_t, int r,
                        UnpackedSuperblocks& to) {
  const auto& block = row[g];
  for (int c = 0; c < 8; ++c) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.q[r] + 32 * c),
                       Avx2Blocks<Format>::Chunk(block, c));
  }
  // Scales twice in a word, as pairs of products want them.
  const auto twice = [](__m256i lanes) {
    return _mm256_or_si256(_mm256_slli_epi32(lanes, 16),
                           _mm256_and_si256(lanes, _mm256_set1_epi32(0xffff)));
  };
  auto* scales = reinterpret_cast<__m256i*>(to.scale[r]);
  if constexpr (Format::kHasMinima) {
    const __m128i decoded =
        _mm256_castsi256_si128(DecodeHeaders(LoadHeaders(block.header, block.header)));
    _mm256_store_si256(scales, twice(_mm256_cvtepu8_epi32(decoded)));
    _mm_store_si128(reinterpret_cast<__m128i*>(to.minimum_pair[r]),
                    _mm_cvtepu8_epi16(_mm_srli_si128(decoded, 8)));
    to.d[r] = HalfToFloat(block.header.d);
    to.dmin[r] = HalfToFloat(block.header.dmin);
  } else {
    const __m128i scale = Load128(block.scale);
    _mm256_store_si256(scales, twice(_mm256_cvtepi8_epi32(scale)));
    _mm256_store_si256(scales + 1, twice(_mm256_cvtepi8_epi32(_mm_srli_si128(scale, 8))));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.scale_pair[r]), _mm256_cvtepi8_epi16(scale));
    to.d[r] = HalfToFloat(block.d);
  }
}

template <typename Format>
inline void UnpackGroup(const typename Format::Block* row, int64_t g, int64_t block_count, int r,
                        UnpackedBlocks& to) {
  for (int b = 0; b < 8; ++b) {
    const bool there = 8 * g + b < block_count;
    const auto& block = row[there ? 8 * g + b : 0];
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.q[r] + 32 * b),
                       Avx2Blocks<Format>::Chunk(block));
    to.d[r][b] = there ? HalfToFloat(block.d) : 0.0f;
  }
}

// Sums in 16 bits of the pairs of products of 4 * kSteps values, from word `first` on, for a half
// panel: lanes 8 * half to 8 * half + 7.
template <typename Format, int kSteps>
inline void AddPairProducts(const uint8_t (*q)[256], int first, const int8_t (*x)[16][4],
                            __m256i pairs[kRowsInRegisters][2]) {
#pragma GCC unroll 8
  for (int k = 0; k < kSteps; ++k) {
    for (int half = 0; half < 2; ++half) {
      const __m256i values = Load256(x[first + k][8 * half]);
      for (int r = 0; r < kRowsInRegisters; ++r) {
        const __m256i w = BroadcastWord(&q[r][4 * (first + k)]);
        const __m256i products = PairProducts<Format>(w, values);
        pairs[r][half] = k == 0 ? products : _mm256_add_epi16(pairs[r][half], products);
      }
    }
  }
}

// What Q4_K and Q5_K subtract for their minima, and Q6_K for its offset: sums times pairs.
template <typename Format>
inline __m256i Correction(const UnpackedSuperblocks& w, int row, const Q8x256PanelGroup& panel,
                          int half) {
  constexpr int kPairs = Format::kHasMinima ? 4 : 8;
  __m256i correction = _mm256_setzero_si256();
  for (int i = 0; i < kPairs; ++i) {
    const void* pair = Format::kHasMinima ? &w.minimum_pair[row][i] : &w.scale_pair[row][i];
    const void* sums = Format::kHasMinima ? panel.sums32[i][8 * half] : panel.sums16[i][8 * half];
    correction =
        _mm256_add_epi32(correction, _mm256_madd_epi16(BroadcastWord(pair), Load256(sums)));
  }
  return correction;
}

// Weight rows [row, row + 2) of an unpacked superblock and one panel, into strand[weight row].
template <typename Format>
inline void MultiplySuperblock(const UnpackedSuperblocks& w, int row, const Q8x256PanelGroup& panel,
                               int p, bool first, float (*strand)[kPassPanels][kPanelRows]) {
  constexpr int kSteps = Avx2Blocks<Format>::kSteps;
  constexpr int kValuesOfScale = Format::kHasMinima ? 32 : 16;
  __m256i isum[kRowsInRegisters][2];
  for (auto& sums : isum) sums[0] = sums[1] = _mm256_setzero_si256();
  for (int k = 0; k < 64; k += kSteps) {
    __m256i pairs[kRowsInRegisters][2];
    AddPairProducts<Format, kSteps>(w.q + row, k, panel.q, pairs);
    for (int r = 0; r < kRowsInRegisters; ++r) {
      const __m256i scale = BroadcastWord(&w.scale[row + r][4 * k / kValuesOfScale]);
      for (int half = 0; half < 2; ++half) {
        isum[r][half] = _mm256_add_epi32(isum[r][half], _mm256_madd_epi16(pairs[r][half], scale));
      }
    }
  }
  for (int r = 0; r < kRowsInRegisters; ++r) {
    for (int half = 0; half < 2; ++half) {
      const __m256i correction = Correction<Format>(w, row + r, panel, half);
      const __m256 dx = _mm256_load_ps(panel.d + 8 * half);
      const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(w.d[row + r]), dx);
      float* s = strand[row + r][p] + 8 * half;
      const __m256 old = StrandOrZero(s, first);
      if constexpr (Format::kHasMinima) {
        const __m256 min_scale = _mm256_mul_ps(_mm256_set1_ps(w.dmin[row + r]), dx);
        const __m256 sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(isum[r][half]), old);
        _mm256_store_ps(s, _mm256_fnmadd_ps(min_scale, _mm256_cvtepi32_ps(correction), sum));
      } else {
        const __m256i exact = _mm256_sub_epi32(isum[r][half], _mm256_slli_epi32(correction, 5));
        _mm256_store_ps(s, _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(exact), old));
      }
    }
  }
}

template <typename Format, int kPanels>
inline void MultiplyGroup(const UnpackedSuperblocks& w, int64_t b, const Q8x256PanelGroup* const* x,
                          int first_panel, PassStrands& strands) {
  for (int p = 0; p < kPanels; ++p) {
    for (int row = 0; row < kTileRows; row += kRowsInRegisters) {
      MultiplySuperblock<Format>(w, row, *x[p], first_panel + p, b < 8, strands.s[b % 8]);
    }
  }
}

// Block b of weight rows [row, row + 2) and one panel.
template <typename Format>
inline void MultiplyBlock(const UnpackedBlocks& w, int row, int b, const Q8x32PanelGroup& panel,
                          int p, bool first, float (*strand)[kPassPanels][kPanelRows]) {
  using Blocks = Avx2Blocks<Format>;
  __m256i isum[kRowsInRegisters][2];
  for (int half = 0; half < 2; ++half) {
    // Weights are an offset too large: start below zero by that many sums.
    const __m256i offset =
        _mm256_slli_epi32(Load256(panel.sums[b] + 8 * half), Blocks::kOffsetBits);
    for (auto& sums : isum) {
      sums[half] = Blocks::kSigned ? _mm256_setzero_si256()
                                   : _mm256_sub_epi32(_mm256_setzero_si256(), offset);
    }
  }
  for (int k = 8 * b; k < 8 * b + 8; k += Blocks::kSteps) {
    __m256i pairs[kRowsInRegisters][2];
    AddPairProducts<Format, Blocks::kSteps>(w.q + row, k, panel.q, pairs);
    for (int r = 0; r < kRowsInRegisters; ++r) {
      for (int half = 0; half < 2; ++half) {
        const __m256i sums = _mm256_madd_epi16(pairs[r][half], _mm256_set1_epi16(1));
        isum[r][half] = _mm256_add_epi32(isum[r][half], sums);
      }
    }
  }
  for (int r = 0; r < kRowsInRegisters; ++r) {
    for (int half = 0; half < 2; ++half) {
      const __m256 dx = _mm256_load_ps(panel.d[b] + 8 * half);
      const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(w.d[row + r][b]), dx);
      float* s = strand[row + r][p] + 8 * half;
      _mm256_store_ps(
          s, _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(isum[r][half]), StrandOrZero(s, first)));
    }
  }
}

template <typename Format, int kPanels>
inline void MultiplyGroup(const UnpackedBlocks& w, int64_t g, const Q8x32PanelGroup* const* x,
                          int first_panel, PassStrands& strands) {
  for (int p = 0; p < kPanels; ++p) {
    for (int b = 0; b < 8; ++b) {
      for (int row = 0; row < kTileRows; row += kRowsInRegisters) {
        MultiplyBlock<Format>(w, row, b, *x[p], first_panel + p, g == 0, strands.s[b]);
      }
    }
  }
}

// Sums the strands of a pass and stores one value for each weight row and activation row.
inline void StorePass(const MatmulArgs& args, const PassStrands& strands, int64_t first_row,
                      int64_t first_x, int panel_count) {
  const int64_t rows = args.row_end - first_row < kTileRows ? args.row_end - first_row : kTileRows;
  for (int p = 0; p < panel_count; ++p) {
    alignas(32) float sums[kTileRows][kPanelRows];
    for (int r = 0; r < kTileRows; ++r) {
      for (int half = 0; half < 2; ++half) {
        const auto s = [&](int i) { return _mm256_load_ps(strands.s[i][r][p] + 8 * half); };
        const __m256 even = _mm256_add_ps(_mm256_add_ps(s(0), s(4)), _mm256_add_ps(s(2), s(6)));
        const __m256 odd = _mm256_add_ps(_mm256_add_ps(s(1), s(5)), _mm256_add_ps(s(3), s(7)));
        _mm256_store_ps(sums[r] + 8 * half, _mm256_add_ps(even, odd));
      }
    }
    const int64_t x = first_x + p * kPanelRows;
    for (int64_t j = 0; j < kPanelRows && x + j < args.count; ++j) {
      for (int64_t r = 0; r < rows; ++r) args.out[x + j][first_row + r] = sums[r][j];
    }
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
