// The inner loops of every float dot: a few weight rows (or keys) against a few activation rows (or
// queries), in registers.
//
// "Lanes" are the 32 running sums of the exactness contract. Those of row r with x j lie at
// lanes + j * x_stride + r * 32, in floats; FoldEight ends them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/lanes.h"

namespace stoker::cpu::STOKER_ISA {

// Rows that FoldEight finishes at once, hence the rows of a tile.
inline constexpr int kTileRows = 8;
// x that one pass meets: 8 rows by 3 x are 24 of AVX-512's 32 registers. AVX2 takes the rows of a
// tile in two passes of four, 12 of its 16.
inline constexpr int kPassCount = 3;
inline constexpr int kTilePassRows = kWidth == 16 ? 8 : 4;

inline constexpr int kTileLanes = kTileRows * kDotLanes;

template <int kRows, int kCount, int kRegisters>
struct DotSums {
  F32s sum[kCount][kRows][kRegisters];
};

template <int kRows, int kCount, int kRegisters>
STOKER_INLINE void StartSums(bool resume, const float* lanes, int64_t x_stride,
                             DotSums<kRows, kCount, kRegisters>& sums) {
#pragma GCC unroll 8
  for (int j = 0; j < kCount; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int s = 0; s < kRegisters; ++s) {
        const float* lane = lanes + j * x_stride + r * kDotLanes + s * kWidth;
        sums.sum[j][r][s] = resume ? Load(lane) : F32s::Broadcast(0.0f);
      }
    }
  }
}

template <int kRows, int kCount, int kRegisters>
STOKER_INLINE void StoreSums(const DotSums<kRows, kCount, kRegisters>& sums, int64_t x_stride,
                             float* lanes) {
#pragma GCC unroll 8
  for (int j = 0; j < kCount; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int s = 0; s < kRegisters; ++s) {
        Store(lanes + j * x_stride + r * kDotLanes + s * kWidth, sums.sum[j][r][s]);
      }
    }
  }
}

// Elements [i, i + kRegisters * kWidth) of every row and x.
template <Dtype kDtype, int kRows, int kCount, int kRegisters>
STOKER_INLINE void MultiplyAddStep(const std::byte* const* rows, const float* const* x, int64_t i,
                                   DotSums<kRows, kCount, kRegisters>& sums) {
#pragma GCC unroll 8
  for (int s = 0; s < kRegisters; ++s) {
    F32s x_values[kCount];
#pragma GCC unroll 8
    for (int j = 0; j < kCount; ++j) {
      x_values[j] = Load(x[j] + i + s * kWidth);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32s w = LoadElements<kDtype>(rows[r] + (i + s * kWidth) * kElementBytes<kDtype>);
#pragma GCC unroll 8
      for (int j = 0; j < kCount; ++j) {
        sums.sum[j][r][s] = Fma(w, x_values[j], sums.sum[j][r][s]);
      }
    }
  }
}

// Elements [begin, cols) of every row and x, fewer than 32. Lanes past the end are left alone:
// adding a zero to them could turn -0 into +0.
template <Dtype kDtype, int kRows, int kCount>
STOKER_INLINE void MultiplyAddTail(const std::byte* const* rows, const float* const* x,
                                   int64_t begin, int64_t cols, int64_t x_stride, float* lanes) {
  for (int64_t i = begin; i < cols; i += kWidth) {
    const int n = static_cast<int>(Smaller(cols - i, kWidth));
    for (int r = 0; r < kRows; ++r) {
      const F32s w = LoadUpTo<kDtype>(rows[r] + i * kElementBytes<kDtype>, n);
      for (int j = 0; j < kCount; ++j) {
        float* lane = lanes + j * x_stride + r * kDotLanes + (i - begin);
        const F32s x_values = LoadUpTo(x[j] + i, n);
        const F32s sum = Load(lane);
        Store(lane, n == kWidth ? Fma(w, x_values, sum) : FmaPartial(w, x_values, sum, n));
      }
    }
  }
}

// Adds to the lanes of kRows rows of kDtype values and kCount x, or starts them unless `resume`;
// all columns before the last call's are a multiple of 32. A pass over the columns keeps kRegisters
// of the registers that make up 32 lanes: fewer of them leave room for more rows.
template <Dtype kDtype, int kRows, int kCount, int kRegisters>
STOKER_INLINE void MultiplyAddLanes(const std::byte* const* rows, const float* const* x,
                                    int64_t cols, bool resume, int64_t x_stride, float* lanes) {
  const int64_t whole = cols / kDotLanes * kDotLanes;
  for (int lane = 0; lane < kDotLanes; lane += kRegisters * kWidth) {
    DotSums<kRows, kCount, kRegisters> sums;
    StartSums(resume, lanes + lane, x_stride, sums);
    for (int64_t i = lane; i < whole; i += kDotLanes) {
      MultiplyAddStep<kDtype>(rows, x, i, sums);
    }
    StoreSums(sums, x_stride, lanes + lane);
  }
  if (whole < cols) {
    MultiplyAddTail<kDtype, kRows, kCount>(rows, x, whole, cols, x_stride, lanes);
  }
}

// An F32 tile of eight rows of `cols` values, `row_stride` floats apart.
struct DotTile {
  const float* values;
  int64_t row_stride;
  int64_t cols;
};

template <int kCount>
STOKER_INLINE void MultiplyAddTilePass(const DotTile& tile, const float* const* x, bool resume,
                                       float* lanes) {
  for (int first = 0; first < kTileRows; first += kTilePassRows) {
    const std::byte* rows[kTilePassRows];
    for (int r = 0; r < kTilePassRows; ++r) {
      rows[r] = reinterpret_cast<const std::byte*>(tile.values + (first + r) * tile.row_stride);
    }
    MultiplyAddLanes<Dtype::kF32, kTilePassRows, kCount, 1>(rows, x, tile.cols, resume, kTileLanes,
                                                            lanes + first * kDotLanes);
  }
}

// MultiplyAddLanes of a tile's eight rows and `count` <= kPassCount x.
inline void MultiplyAddTile(const DotTile& tile, const float* const* x, int64_t count, bool resume,
                            float* lanes) {
  if (count == 3) {
    MultiplyAddTilePass<3>(tile, x, resume, lanes);
  } else if (count == 2) {
    MultiplyAddTilePass<2>(tile, x, resume, lanes);
  } else {
    MultiplyAddTilePass<1>(tile, x, resume, lanes);
  }
}

// y[0..n) = the n values of kDtype at p as F32.
template <Dtype kDtype>
STOKER_INLINE void Widen(const std::byte* p, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    Store(y + i, LoadElements<kDtype>(p + i * kElementBytes<kDtype>));
  }
  if (i < n) {
    StorePartial(y + i, LoadUpTo<kDtype>(p + i * kElementBytes<kDtype>, n - i),
                 static_cast<int>(n - i));
  }
}

}  // namespace stoker::cpu::STOKER_ISA
