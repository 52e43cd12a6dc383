// Multiplies weight rows with panels of sixteen activation rows in lanes: prompts and batches.
//
// Each tile of weight rows is unpacked once, block by block, into a small array, and meets all the
// panels of a pass there: a 32-bit broadcast of four weights times a vector of four values of each
// of sixteen rows. Four weight rows by two panels are in registers at a time, so that six loads
// feed eight multiplications.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/avx512_blocks.h"
#include "kernels/cpu/panel_tile.h"
#include "kernels/ops.h"
#include "kernels/panel.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

inline constexpr int kRowsInRegisters = 4;

// A strand, or zero before its first block.
inline __m512 StrandOrZero(const float* s, bool first) {
  return _mm512_maskz_load_ps(first ? __mmask16{0} : __mmask16{0xffff}, s);
}

inline __m512i BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

template <typename Format>
inline void UnpackRow(const typename Format::Block& block, int r, UnpackedSuperblocks& to) {
  using Blocks = Avx512Blocks<Format>;
  __m512i u[4];
  Blocks::Unpack(block, u);
  StoreNatural<Blocks::kOrder>(u, to.q[r]);
  if constexpr (Format::kHasMinima) {
    const __m512i header =
        _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(&block.header)));
    const __m128i decoded = _mm512_castsi512_si128(DecodeHeaders(header));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.scale[r]), _mm256_cvtepu8_epi32(decoded));
    _mm_store_si128(reinterpret_cast<__m128i*>(to.minimum_pair[r]),
                    _mm_cvtepu8_epi16(_mm_srli_si128(decoded, 8)));
    to.d[r] = _cvtsh_ss(static_cast<uint16_t>(block.header.d[0] | (block.header.d[1] << 8)));
    to.dmin[r] =
        _cvtsh_ss(static_cast<uint16_t>(block.header.dmin[0] | (block.header.dmin[1] << 8)));
  } else {
    const __m128i scale = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scale));
    _mm512_store_si512(to.scale[r], _mm512_cvtepi8_epi32(scale));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to.scale_pair[r]), _mm256_cvtepi8_epi16(scale));
    to.d[r] = _cvtsh_ss(static_cast<uint16_t>(block.d[0] | (block.d[1] << 8)));
  }
}

// Adds the products of 4 * kSteps values, from word `first` of each row on, to sums[row][panel].
template <int kSteps, int kPanels>
inline void AddProducts(const uint8_t (*q)[256], int first, const int8_t (*const* x)[16][4],
                        __m512i sums[kRowsInRegisters][kPanels]) {
#pragma GCC unroll 8
  for (int k = first; k < first + kSteps; ++k) {
    __m512i values[kPanels];
    for (int p = 0; p < kPanels; ++p) values[p] = _mm512_load_si512(x[p][k]);
#pragma GCC unroll 4
    for (int r = 0; r < kRowsInRegisters; ++r) {
      const __m512i w = BroadcastWord(&q[r][4 * k]);
      for (int p = 0; p < kPanels; ++p) {
        sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], w, values[p]);
      }
    }
  }
}

// Weight rows [row, row + 4) of an unpacked superblock and kPanels panels, into one strand.
template <typename Format, int kPanels>
inline void MultiplySuperblock(const UnpackedSuperblocks& w, int row,
                               const Q8x256PanelGroup* const* panels, int first_panel, bool first,
                               float (*strand)[kPassPanels][kPanelRows]) {
  constexpr int kSubBlocks = Format::kHasMinima ? 8 : 16;
  const int8_t(*x[kPanels])[16][4];
  for (int p = 0; p < kPanels; ++p) x[p] = panels[p]->q;
  __m512i isum[kRowsInRegisters][kPanels];
  for (auto& sums : isum) {
    for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  }
  for (int j = 0; j < kSubBlocks; ++j) {
    __m512i dot[kRowsInRegisters][kPanels];
    for (auto& sums : dot) {
      for (__m512i& sum : sums) sum = _mm512_setzero_si512();
    }
    constexpr int kSteps = 64 / kSubBlocks;
    AddProducts<kSteps, kPanels>(w.q + row, kSteps * j, x, dot);
#pragma GCC unroll 4
    for (int r = 0; r < kRowsInRegisters; ++r) {
      const __m512i scale = _mm512_set1_epi32(w.scale[row + r][j]);
      for (int p = 0; p < kPanels; ++p) {
        isum[r][p] = _mm512_add_epi32(isum[r][p], _mm512_mullo_epi32(dot[r][p], scale));
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRowsInRegisters; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      __m512i correction = _mm512_setzero_si512();
      constexpr int kPairs = Format::kHasMinima ? 4 : 8;
      for (int i = 0; i < kPairs; ++i) {
        const void* pair =
            Format::kHasMinima ? &w.minimum_pair[row + r][i] : &w.scale_pair[row + r][i];
        const void* sums = Format::kHasMinima ? panels[p]->sums32[i] : panels[p]->sums16[i];
        correction = _mm512_dpwssd_epi32(correction, BroadcastWord(pair), _mm512_load_si512(sums));
      }
      const __m512 dx = _mm512_load_ps(panels[p]->d);
      const __m512 dw = _mm512_set1_ps(w.d[row + r]);
      float* s = strand[row + r][first_panel + p];
      const __m512 old = StrandOrZero(s, first);
      if constexpr (Format::kHasMinima) {
        const __m512 dmin = _mm512_set1_ps(w.dmin[row + r]);
        const __m512 sum =
            _mm512_fmadd_ps(_mm512_mul_ps(dw, dx), _mm512_cvtepi32_ps(isum[r][p]), old);
        _mm512_store_ps(
            s, _mm512_fnmadd_ps(_mm512_mul_ps(dmin, dx), _mm512_cvtepi32_ps(correction), sum));
      } else {
        const __m512i exact = _mm512_sub_epi32(isum[r][p], _mm512_slli_epi32(correction, 5));
        _mm512_store_ps(s, _mm512_fmadd_ps(_mm512_mul_ps(dw, dx), _mm512_cvtepi32_ps(exact), old));
      }
    }
  }
}

template <typename Format, int kPanels>
inline void MultiplyGroup(const UnpackedSuperblocks& w, int64_t b, const Q8x256PanelGroup* const* x,
                          int first_panel, PassStrands& strands) {
  for (int row = 0; row < kTileRows; row += kRowsInRegisters) {
    MultiplySuperblock<Format, kPanels>(w, row, x, first_panel, b < 8, strands.s[b % 8]);
  }
}

template <typename Format>
inline void UnpackGroup(const typename Format::Block* row, int64_t g, int64_t, int r,
                        UnpackedSuperblocks& to) {
  UnpackRow<Format>(row[g], r, to);
}

template <typename Format>
inline void UnpackGroup(const typename Format::Block* row, int64_t g, int64_t block_count, int r,
                        UnpackedBlocks& to) {
  using Blocks = Avx512Blocks<Format>;
  using Block = typename Format::Block;
  const Block* blocks = row + 8 * g;
  Block rest[8] = {};
  const int64_t left = block_count - 8 * g;
  if (left < 8) {
    __builtin_memcpy(rest, blocks, static_cast<size_t>(left) * sizeof(Block));
    blocks = rest;
  }
  __m512i u[4];
  Blocks::Unpack(blocks, u);
  StoreNatural<Blocks::kOrder>(u, to.q[r]);
  for (int b = 0; b < 8; ++b) {
    to.d[r][b] = _cvtsh_ss(static_cast<uint16_t>(blocks[b].d[0] | (blocks[b].d[1] << 8)));
  }
}

// Eight blocks of 32 of all rows of the tile: one for each strand.
template <typename Format, int kPanels>
inline void MultiplyGroup(const UnpackedBlocks& w, int64_t g, const Q8x32PanelGroup* const* panels,
                          int first_panel, PassStrands& strands) {
  const int8_t(*x[kPanels])[16][4];
  for (int p = 0; p < kPanels; ++p) x[p] = panels[p]->q;
  for (int row = 0; row < kTileRows; row += kRowsInRegisters) {
    for (int b = 0; b < 8; ++b) {
      __m512i isum[kRowsInRegisters][kPanels];
      __m512 dx[kPanels];
      for (int p = 0; p < kPanels; ++p) {
        // Weights are an offset too large: start below zero by that many sums.
        const __m512i sums = _mm512_load_si512(panels[p]->sums[b]);
        const __m512i offset = _mm512_sub_epi32(
            _mm512_setzero_si512(), _mm512_slli_epi32(sums, Avx512Blocks<Format>::kOffsetBits));
        for (int r = 0; r < kRowsInRegisters; ++r) isum[r][p] = offset;
        dx[p] = _mm512_load_ps(panels[p]->d[b]);
      }
      AddProducts<8, kPanels>(w.q + row, 8 * b, x, isum);
#pragma GCC unroll 4
      for (int r = 0; r < kRowsInRegisters; ++r) {
        const __m512 dw = _mm512_set1_ps(w.d[row + r][b]);
        for (int p = 0; p < kPanels; ++p) {
          float* s = strands.s[b][row + r][first_panel + p];
          _mm512_store_ps(s,
                          _mm512_fmadd_ps(_mm512_mul_ps(dw, dx[p]), _mm512_cvtepi32_ps(isum[r][p]),
                                          StrandOrZero(s, g == 0)));
        }
      }
    }
  }
}

// Sixteen activation rows' values for eight weight rows, to eight neighbouring floats each.
inline void StoreTransposed(const __m512 v[8], float* const* out, int64_t count, __mmask8 rows) {
  // Lane L of quads[h][k]: activation row 4L + k, weight rows 4h to 4h + 3.
  __m512 quads[2][4];
  for (int h = 0; h < 2; ++h) {
    const __m512 low01 = _mm512_unpacklo_ps(v[4 * h], v[4 * h + 1]);
    const __m512 high01 = _mm512_unpackhi_ps(v[4 * h], v[4 * h + 1]);
    const __m512 low23 = _mm512_unpacklo_ps(v[4 * h + 2], v[4 * h + 3]);
    const __m512 high23 = _mm512_unpackhi_ps(v[4 * h + 2], v[4 * h + 3]);
    const auto pairs = [](__m512 a, __m512 b, bool upper) {
      const __m512d da = _mm512_castps_pd(a);
      const __m512d db = _mm512_castps_pd(b);
      return _mm512_castpd_ps(upper ? _mm512_unpackhi_pd(da, db) : _mm512_unpacklo_pd(da, db));
    };
    quads[h][0] = pairs(low01, low23, false);
    quads[h][1] = pairs(low01, low23, true);
    quads[h][2] = pairs(high01, high23, false);
    quads[h][3] = pairs(high01, high23, true);
  }
  const __m512i lanes = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  for (int k = 0; k < 4; ++k) {
    const __m512i low = _mm512_castps_si512(quads[0][k]);
    const __m512i high = _mm512_castps_si512(quads[1][k]);
    const __m512 rows0and4 = _mm512_castsi512_ps(_mm512_permutex2var_epi64(low, lanes, high));
    const __m512 rows8and12 = _mm512_castsi512_ps(
        _mm512_permutex2var_epi64(low, _mm512_add_epi64(lanes, _mm512_set1_epi64(4)), high));
    const auto store = [&](int j, __m256 values) {
      if (j < count) _mm256_mask_storeu_ps(out[j], rows, values);
    };
    store(k, _mm512_castps512_ps256(rows0and4));
    store(k + 4, _mm512_extractf32x8_ps(rows0and4, 1));
    store(k + 8, _mm512_castps512_ps256(rows8and12));
    store(k + 12, _mm512_extractf32x8_ps(rows8and12, 1));
  }
}

// Sums the strands of a pass and stores one value for each weight row and activation row.
inline void StorePass(const MatmulArgs& args, const PassStrands& strands, int64_t first_row,
                      int64_t first_x, int panel_count) {
  const int64_t left = args.row_end - first_row;
  const auto rows = static_cast<__mmask8>(left < kTileRows ? (1 << left) - 1 : 0xff);
  for (int p = 0; p < panel_count; ++p) {
    __m512 sums[kTileRows];
    for (int r = 0; r < kTileRows; ++r) {
      const auto s = [&](int i) { return _mm512_load_ps(strands.s[i][r][p]); };
      const __m512 even = _mm512_add_ps(_mm512_add_ps(s(0), s(4)), _mm512_add_ps(s(2), s(6)));
      const __m512 odd = _mm512_add_ps(_mm512_add_ps(s(1), s(5)), _mm512_add_ps(s(3), s(7)));
      sums[r] = _mm512_add_ps(even, odd);
    }
    const int64_t x = first_x + p * kPanelRows;
    const int64_t count = args.count - x < kPanelRows ? args.count - x : kPanelRows;
    float* out[kPanelRows];
    for (int64_t j = 0; j < count; ++j) out[j] = args.out[x + j] + first_row;
    StoreTransposed(sums, out, count, rows);
  }
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
