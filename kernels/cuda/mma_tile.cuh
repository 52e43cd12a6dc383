// Tiles of quantized products by integer tensor cores: for prompts, and for experts with many rows.
//
// The threads of a block unpack 256 columns at a time into shared memory (tile_rows.cuh); the warps
// multiply them in runs of 16 or 32 whose sums are exact, and end each block of the format with the
// float steps of the exactness contract (kernels/ops.h), in its order. How a format's integers
// meet:
//
//   format       instruction            scales of a run           minima
//   Q4_K, Q5_K   m16n8k32, one a run    times the sum, integers   m16n8k16, two a block of 256
//   Q6_K         m16n8k16, one a run    times the sum, integers   none
//   Q8_0, Q4_0   m16n8k32, one a block  none                      none
//   F32, F16, BF16: no tiles; their order is that of 32 float lanes, which is a warp's walk.
//
// The eight strands of a cell would be eight registers. Where a block of 256 is one strand's, the
// blocks are taken strand by strand, in the order in which the halving tree takes the strands:
// then what waits to be added is three registers at most. Eight blocks of 32 lie in one step, so
// there a cell has all its strands, and a tile half the columns.
#pragma once

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/cuda/tile_rows.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// A warp's part of the tile, and a lane's of that: row Row(i), column Column(n, i) is cell [n][i]
// of the lane.
template <typename Format>
struct WarpPart {
  static_assert(kWarpRows == kMatrixRows && kPairColumns == 2 * kMatrixColumns);
  using Shape = TileShapeOf<Format>;
  static constexpr int kMatrices = 2 * Shape::kPairs;
  template <typename T>
  using Cells = T[kMatrices][4];

  int lane;
  int first_row;
  int first_column;

  __device__ WarpPart() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32;
    first_row = warp % kRowWarps * kWarpRows;
    first_column = warp / kRowWarps * Shape::kWarpColumns;
  }
  __device__ __forceinline__ int Row(int i) const { return first_row + lane / 4 + 8 * (i / 2); }
  __device__ __forceinline__ int Column(int n, int i) const {
    return first_column + kMatrixColumns * n + 2 * (lane % 4) + i % 2;
  }

  // Words of A for runs `run` and `run` + 1: two for each.
  template <typename Row>
  __device__ __forceinline__ void LoadA(const Row* w, int run, uint32_t (&words)[4]) const {
    LoadMatrices(reinterpret_cast<const uint4*>(w + first_row + lane % 16) + run + lane / 16,
                 words);
  }
  // Words of B for both runs: two for the first 8 columns of a pair, two for the others.
  template <typename Row>
  __device__ __forceinline__ void LoadB(const Row* x, int pair, int run,
                                        uint32_t (&words)[4]) const {
    const int column = first_column + kPairColumns * pair + lane % 8 + 8 * (lane / 16);
    LoadMatrices(reinterpret_cast<const uint4*>(x + column) + run + lane / 8 % 2, words);
  }
};

__device__ __forceinline__ void Clear(MatrixSums& sums) {
  STOKER_UNROLL
  for (int i = 0; i < 4; ++i) sums[i] = 0;
}

// isums += A * B times the scales of the lane's rows.
template <int kDepth>
__device__ __forceinline__ void AddScaled(const uint32_t* a, const uint32_t* b,
                                          const int (&scales)[2], MatrixSums& isums) {
  MatrixSums dots;
  Clear(dots);
  MultiplyAdd<kDepth>(a, b, dots);
  STOKER_UNROLL
  for (int i = 0; i < 4; ++i) isums[i] += scales[i / 2] * dots[i];
}

// Sums over the block's runs of minimum times activations; `a` holds the minima, `b` the low and
// the high halves of the sums of 8 columns' activations.
__device__ __forceinline__ void DotMinima(const uint32_t* a, const uint32_t* b, MatrixSums& msums) {
  Clear(msums);
  MultiplyAdd<16>(a, b + 1, msums);
  STOKER_UNROLL
  for (int i = 0; i < 4; ++i) msums[i] *= 128;
  MultiplyAdd<16>(a, b, msums);
}

// isums = sums over the block's runs of scale times the run's sum.
template <typename Format>
__device__ __forceinline__ void DotRuns(const TileOf256& tile, const WarpPart<Format>& part,
                                        typename WarpPart<Format>::template Cells<int>& isums) {
  constexpr int kMatrices = WarpPart<Format>::kMatrices;
  STOKER_UNROLL
  for (int n = 0; n < kMatrices; ++n) Clear(isums[n]);
  constexpr int kDepth = Format::kHasMinima ? 32 : 16;  // values of one scale
  STOKER_UNROLL_BY(1)
  for (int run = 0; run < kTileRuns; run += kDepth / 16) {
    const int scales[2] = {tile.w[part.Row(0)].scales[run], tile.w[part.Row(2)].scales[run]};
    uint32_t a[4];
    uint32_t b[4];
    part.LoadA(tile.w, run, a);  // with kDepth 16 two are wanted
    if constexpr (kDepth == 32) {
      STOKER_UNROLL
      for (int n = 0; n < kMatrices; n += 2) {
        part.LoadB(tile.x, n / 2, run, b);
        AddScaled<32>(a, b, scales, isums[n]);
        AddScaled<32>(a, b + 2, scales, isums[n + 1]);
      }
    } else {
      static_assert(kMatrices == 4);
      LoadMatrices(tile.x[part.first_column + part.lane].q + run, b);
      STOKER_UNROLL
      for (int n = 0; n < kMatrices; ++n) AddScaled<16>(a, b + n, scales, isums[n]);
    }
  }
}

// Adds one block of 256 to its strand.
template <typename Format>
__device__ __forceinline__ void AddBlock(const TileOf256& tile, const WarpPart<Format>& part,
                                         typename WarpPart<Format>::template Cells<float>& strand) {
  typename WarpPart<Format>::template Cells<int> isums;
  DotRuns<Format>(tile, part, isums);
  [[maybe_unused]] uint32_t a[4];  // two are minima
  [[maybe_unused]] uint32_t b[4];  // of 8 columns each: low, high, low, high
  if constexpr (Format::kHasMinima) part.LoadA(tile.w, kTileRuns, a);
  STOKER_UNROLL
  for (int n = 0; n < WarpPart<Format>::kMatrices; ++n) {
    [[maybe_unused]] MatrixSums msums;
    if constexpr (Format::kHasMinima) {
      if (n % 2 == 0) part.LoadB(tile.x, n / 2, kTileRuns, b);
      DotMinima(a, b + n % 2 * 2, msums);
    }
    STOKER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const WeightRow256& w = tile.w[part.Row(i)];
      const float dx = tile.x[part.Column(n, i)].d;
      float s = __fmaf_rn(w.d * dx, static_cast<float>(isums[n][i]), strand[n][i]);
      if constexpr (Format::kHasMinima) {
        s = __fmaf_rn(-(w.dmin * dx), static_cast<float>(msums[i]), s);
      }
      strand[n][i] = s;
    }
  }
}

// Adds up to eight blocks of 32, each to its strand.
template <typename Format>
__device__ __forceinline__ void AddBlocks(
    const TileOf32& tile, const WarpPart<Format>& part, int blocks,
    typename WarpPart<Format>::template Cells<float> (&strands)[kTileStrands]) {
  STOKER_UNROLL
  for (int k = 0; k < kTileStrands; ++k) {
    if (k >= blocks) break;
    uint32_t a[4];
    uint32_t b[4];
    part.LoadA(tile.w, 2 * k, a);
    part.LoadB(tile.x, 0, 2 * k, b);
    STOKER_UNROLL
    for (int n = 0; n < WarpPart<Format>::kMatrices; ++n) {
      MatrixSums isums;
      Clear(isums);
      MultiplyAdd<32>(a, b + 2 * n, isums);
      STOKER_UNROLL
      for (int i = 0; i < 4; ++i) {
        const float scale = tile.w[part.Row(i)].d[k] * tile.x[part.Column(n, i)].d[k];
        strands[k][n][i] = __fmaf_rn(scale, static_cast<float>(isums[i]), strands[k][n][i]);
      }
    }
  }
}

// Adds strands as they come in the order 0 4 2 6 1 5 3 7, in the halving tree of the contract: what
// is complete is added to what waits beside it.
template <typename Format>
class StrandTree {
 public:
  using Cells = typename WarpPart<Format>::template Cells<float>;
  __device__ explicit StrandTree(TileOf256& tile) : tile_(tile) {}

  // Strand `step` of the order. The last leaves the whole sum in `sum`.
  __device__ __forceinline__ void Add(int step, Cells& sum) {
    STOKER_UNROLL_BY(1)
    for (; step % 2 != 0; step /= 2) {
      STOKER_UNROLL
      for (int c = 0; c < kCells; ++c) {
        sum[c / 4][c % 4] = first_[c] + sum[c / 4][c % 4];
        first_[c] = second_[c];
        second_[c] = Third(c);
      }
    }
    STOKER_UNROLL
    for (int c = 0; c < kCells; ++c) {
      Third(c) = second_[c];
      second_[c] = first_[c];
      first_[c] = sum[c / 4][c % 4];
    }
  }

 private:
  static constexpr int kCells = sizeof(Cells) / sizeof(float);
  __device__ __forceinline__ float& Third(int c) {
    return c < kParkedCells ? tile_.parked[c][threadIdx.x] : third_[c - kParkedCells];
  }

  TileOf256& tile_;
  float first_[kCells] = {};  // the sum that came last
  float second_[kCells] = {};
  float third_[kCells - kParkedCells] = {};
};

// sums = the cells of this lane. A warp that is idle, for lack of rows or columns, only loads.
template <typename Format>
__device__ __forceinline__ void SumTile(const TileWeights<Format>& weights,
                                        const TileInputs<Format>& inputs,
                                        const WarpPart<Format>& part, bool is_idle, TileOf256& tile,
                                        typename WarpPart<Format>::template Cells<float>& sums) {
  StrandTree<Format> tree(tile);
  STOKER_UNROLL_BY(1)
  for (int step = 0; step < kTileStrands; ++step) {
    const int strand = 4 * (step % 2) + 2 * (step / 2 % 2) + step / 4;
    STOKER_UNROLL
    for (int c = 0; c < 4 * WarpPart<Format>::kMatrices; ++c) sums[c / 4][c % 4] = 0;
    STOKER_UNROLL_BY(1)
    for (int b = strand; b < weights.blocks(); b += kTileStrands) {
      inputs.Load(b, tile);
      weights.Load(b, tile);
      __syncthreads();
      if (!is_idle) AddBlock<Format>(tile, part, sums);
      __syncthreads();
    }
    tree.Add(step, sums);
  }
}

template <typename Format>
__device__ __forceinline__ void SumTile(const TileWeights<Format>& weights,
                                        const TileInputs<Format>& inputs,
                                        const WarpPart<Format>& part, bool is_idle, TileOf32& tile,
                                        typename WarpPart<Format>::template Cells<float>& sums) {
  typename WarpPart<Format>::template Cells<float> strands[kTileStrands] = {};
  STOKER_UNROLL_BY(1)
  for (int first = 0; first < weights.blocks(); first += kTileStrands) {
    weights.Load(first / kTileStrands, tile);
    inputs.Load(first / kTileStrands, tile);
    __syncthreads();
    if (!is_idle) AddBlocks<Format>(tile, part, weights.blocks() - first, strands);
    __syncthreads();
  }
  STOKER_UNROLL
  for (int c = 0; c < 4 * WarpPart<Format>::kMatrices; ++c) {
    const auto cell = [&](int k) { return strands[k][c / 4][c % 4]; };
    sums[c / 4][c % 4] =
        ((cell(0) + cell(4)) + (cell(2) + cell(6))) + ((cell(1) + cell(5)) + (cell(3) + cell(7)));
  }
}

// Computes a tile of a matrix of `cols` columns. What a Tile tells:
//   weights()                  the first of its rows of weights
//   rows()                     how many they are, 1 to kTileRows
//   columns()                  how many activation rows, 1 to TileShape::kColumns
//   IsIdle(row, column)        whether a warp whose part starts there has nothing to do
//   InputOf(column)            an activation row
//   Store(row, column, value)  takes a result that there is
// It is asked for columns again at the end: registers in between are for sums. All threads of the
// block take part.
template <typename Format, typename Tile>
__device__ __forceinline__ void RunTile(const Tile& tile, int64_t cols) {
  STOKER_SHARED(TileOf<Format>, shared);
  const WarpPart<Format> part;
  typename WarpPart<Format>::template Cells<float> sums;
  SumTile<Format>(TileWeights<Format>(tile.weights(), tile.rows(), cols), TileInputs<Format>(tile),
                  part, tile.IsIdle(part.first_row, part.first_column), shared, sums);
  const int rows = tile.rows();
  const int columns = tile.columns();
  STOKER_UNROLL
  for (int n = 0; n < WarpPart<Format>::kMatrices; ++n) {
    STOKER_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = part.Row(i);
      const int column = part.Column(n, i);
      if (row < rows && column < columns) tile.Store(row, column, sums[n][i]);
    }
  }
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
