// Walks weight rows as they lie in a file, for few rows of activations: decoding one token.
//
// Weights come from memory once and are the bottleneck, so the kernels keep the instructions per
// byte low: several rows run side by side so that the activations, and the transposed additions
// that turn vectors of partial sums into one integer a row, are shared.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/walk_tile.h"
#include "kernels/ops.h"
#if defined(__AVX512VNNI__)
#include "kernels/cpu/avx512_walk.h"
#else
#include "kernels/cpu/avx2_walk.h"
#endif

namespace stoker::cpu::STOKER_ISA {
namespace {

// Rows [first, first + kWalkRows) of a K-quant matrix, of which those before row_end are stored.
template <typename Format, int kCount>
void WalkSuperblockTile(const MatmulArgs& args, int64_t first, int64_t first_x) {
  const int64_t block_count = args.w.cols / 256;
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(args.w.data);
  const typename Format::Block* rows[kWalkRows];
  for (int64_t r = 0; r < kWalkRows; ++r) {
    const int64_t row = first + r < args.row_end ? first + r : args.row_end - 1;
    rows[r] = blocks + row * block_count;
  }
  const Q8x256Group* x[kCount];
  __m256 strands[kCount][8];
  __m256* strand_rows[kCount];
  for (int j = 0; j < kCount; ++j) {
    x[j] = reinterpret_cast<const Q8x256Group*>(args.x[first_x + j]);
    for (__m256& s : strands[j]) s = _mm256_setzero_ps();
    strand_rows[j] = strands[j];
  }
  constexpr int64_t kStepBytes = kWalkRows * sizeof(typename Format::Block);
  for (int64_t b = 0; b < block_count; ++b) {
    const char* ahead = Ahead(rows[0], block_count * kStepBytes, b * kStepBytes);
    if constexpr (Format::kHasMinima) {
      StepWithMinima<Format, kCount>(rows, b, x, strand_rows, ahead);
    } else {
      StepWithoutMinima<Format, kCount>(rows, b, x, strand_rows, ahead);
    }
  }
  const auto left = static_cast<int>(args.row_end - first < kWalkRows ? args.row_end - first : 8);
  const __m256i stored =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
  for (int j = 0; j < kCount; ++j) {
    _mm256_maskstore_ps(args.out[first_x + j] + first, stored, SumOfStrands(strands[j]));
  }
}

template <typename Format, int kCount>
void WalkRows(const MatmulArgs& args, int64_t first_x) {
  if constexpr (Format::kActivation == ActivationKind::kQ8x256) {
    for (int64_t r = args.row_begin; r < args.row_end; r += kWalkRows) {
      WalkSuperblockTile<Format, kCount>(args, r, first_x);
    }
  } else {
    for (int64_t r = args.row_begin; r < args.row_end; r += kBlockRows) {
      WalkBlockRows<Format, kCount>(args, r, first_x);
    }
  }
}

template <typename Format>
void WalkMatmul(const MatmulArgs& args) {
  int64_t j = 0;
  for (; args.count - j > 2; j += 3) WalkRows<Format, 3>(args, j);
  if (args.count - j == 2) WalkRows<Format, 2>(args, j);
  if (args.count - j == 1) WalkRows<Format, 1>(args, j);
}

}  // namespace
}  // namespace stoker::cpu::STOKER_ISA
