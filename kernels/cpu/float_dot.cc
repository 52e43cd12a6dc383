// Products of F32, F16 and BF16 weights: straight from the file's bytes for a few activation rows,
// which is as fast as memory; through a widened tile in the first-level cache for more of them.
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dot_lanes.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

// Widened columns of eight rows take 16 KiB and the same columns of three x 6 KiB: with the lanes
// in use they fit a first-level cache of 32 KiB.
constexpr int64_t kTileCols = 512;
// Activation rows that share a widened tile. Their lanes take 24 KiB.
constexpr int64_t kBlockCount = 24;

// Rows in flight when weights are read in place: as many as the registers hold.
template <int kCount>
constexpr int kDirectRows = kWidth == 16 ? 4 : (kCount == 1 ? 2 : 1);

// Eight rows from `row_first` on; those past the end repeat the last one, and are not written.
template <Dtype kDtype>
STOKER_INLINE int GatherRows(const MatmulArgs& args, int64_t row_first, const std::byte** rows) {
  const int64_t row_bytes = args.w.cols * kElementBytes<kDtype>;
  for (int r = 0; r < kTileRows; ++r) {
    rows[r] = args.w.data + Smaller(row_first + r, args.row_end - 1) * row_bytes;
  }
  return static_cast<int>(Smaller(kTileRows, args.row_end - row_first));
}

STOKER_INLINE const float* ActivationsOf(const MatmulArgs& args, int64_t j) {
  return reinterpret_cast<const float*>(args.x[j]);
}

// Folds the lanes of eight rows and writes the first `row_count` results.
STOKER_INLINE void WriteTotals(const float* lanes, int row_count, float* out) {
  float totals[kTileRows];
  FoldEight(reinterpret_cast<const float(*)[kDotLanes]>(lanes), totals);
  for (int r = 0; r < row_count; ++r) {
    out[r] = totals[r];
  }
}

template <Dtype kDtype, int kCount>
void MultiplyInPlace(const MatmulArgs& args) {
  constexpr int kRows = kDirectRows<kCount>;
  const float* x[kCount];
  for (int j = 0; j < kCount; ++j) {
    x[j] = ActivationsOf(args, j);
  }
  alignas(64) float lanes[kCount * kTileLanes];
  for (int64_t row = args.row_begin; row < args.row_end; row += kTileRows) {
    const std::byte* rows[kTileRows];
    const int row_count = GatherRows<kDtype>(args, row, rows);
    for (int r = 0; r < row_count; r += kRows) {
      MultiplyAddLanes<kDtype, kRows, kCount, kDotRegisters>(rows + r, x, args.w.cols, false,
                                                             kTileLanes, lanes + r * kDotLanes);
    }
    for (int j = 0; j < kCount; ++j) {
      WriteTotals(lanes + j * kTileLanes, row_count, args.out[j] + row);
    }
  }
}

// One tile, which starts at column `col`, with activation rows [j_begin, j_begin + count).
STOKER_INLINE void MultiplyTile(const DotTile& tile, const MatmulArgs& args, int64_t j_begin,
                                int64_t count, int64_t col, float* lanes) {
  for (int64_t j = 0; j < count; j += kPassCount) {
    const int64_t pass_count = Smaller(kPassCount, count - j);
    const float* x[kPassCount];
    for (int64_t i = 0; i < pass_count; ++i) {
      x[i] = ActivationsOf(args, j_begin + j + i) + col;
    }
    MultiplyAddTile(tile, x, pass_count, col > 0, lanes + j * kTileLanes);
  }
}

// Activation rows [j_begin, j_begin + count), count <= kBlockCount.
template <Dtype kDtype>
void MultiplyThroughTiles(const MatmulArgs& args, int64_t j_begin, int64_t count) {
  alignas(64) float tile[kTileRows * kTileCols];
  alignas(64) float lanes[kBlockCount * kTileLanes];
  for (int64_t row = args.row_begin; row < args.row_end; row += kTileRows) {
    const std::byte* rows[kTileRows];
    const int row_count = GatherRows<kDtype>(args, row, rows);
    for (int64_t col = 0; col < args.w.cols; col += kTileCols) {
      const int64_t cols = Smaller(kTileCols, args.w.cols - col);
      for (int r = 0; r < kTileRows; ++r) {
        Widen<kDtype>(rows[r] + col * kElementBytes<kDtype>, cols, tile + r * kTileCols);
      }
      MultiplyTile({tile, kTileCols, cols}, args, j_begin, count, col, lanes);
    }
    for (int64_t j = 0; j < count; ++j) {
      WriteTotals(lanes + j * kTileLanes, row_count, args.out[j_begin + j] + row);
    }
  }
}

template <Dtype kDtype>
void Multiply(const MatmulArgs& args) {
  switch (args.count) {
    case 1:
      return MultiplyInPlace<kDtype, 1>(args);
    case 2:
      return MultiplyInPlace<kDtype, 2>(args);
    case 3:
      return MultiplyInPlace<kDtype, 3>(args);
    default:
      for (int64_t j = 0; j < args.count; j += kBlockCount) {
        MultiplyThroughTiles<kDtype>(args, j, Smaller(kBlockCount, args.count - j));
      }
  }
}

}  // namespace

void MatmulFloat(const MatmulArgs& args) {
  switch (args.w.dtype) {
    case Dtype::kF32:
      return Multiply<Dtype::kF32>(args);
    case Dtype::kF16:
      return Multiply<Dtype::kF16>(args);
    case Dtype::kBF16:
      return Multiply<Dtype::kBF16>(args);
    default:
      __builtin_trap();  // Matmul sends only these here.
  }
}

}  // namespace stoker::cpu::STOKER_ISA
