// Products with many activation rows: bound by multiplying, so weights are unpacked once into
// shared memory for a tile of activation rows.
#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/lane_part.cuh"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

// A block computes kTileRows weight rows by kTileColumns activation rows; a thread 4 by 2 of them:
// rows t % 16 + 16 i, columns t / 16 + 16 j.
constexpr int kThreads = 256;
constexpr int kTileRows = 64;
constexpr int kTileColumns = 32;
constexpr int kThreadRows = 4;
constexpr int kThreadColumns = 2;
constexpr int kStrands = 8;

// 256 bytes of a row in words. Four words more than they take: then 16-byte reads of eight rows one
// below the other meet 32 different banks.
constexpr int kRowWords = 64 + 4;
using TileRow = uint4[kRowWords / 4];
using Sixteen = int8_t[16];
using SixteenSums = int16_t[16];
using Eight = float[8];

struct Tile {
  ProductGroup::Item item;
  int64_t first_row;
  int64_t first_column;
};

__device__ __forceinline__ int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }

__device__ __forceinline__ uint32_t* WordsOf(TileRow& row) {
  return reinterpret_cast<uint32_t*>(row);
}

// One step of 256 values of the tile's rows, unpacked. Rows and columns past the end repeat the
// last.
struct Shared256 {
  TileRow w[kTileRows];
  Sixteen scales[kTileRows];
  Sixteen minima[kTileRows];
  float d[kTileRows];
  float dmin[kTileRows];
  TileRow x[kTileColumns];
  SixteenSums sums[kTileColumns];
  float dx[kTileColumns];
};
struct Shared32 {
  TileRow w[kTileRows];
  Eight d[kTileRows];
  TileRow x[kTileColumns];
  Eight dx[kTileColumns];
};

template <typename Format>
using SharedOf =
    std::conditional_t<Format::kActivation == ActivationKind::kQ8x32, Shared32, Shared256>;

template <typename Format, bool kWide>
__device__ __forceinline__ void LoadWeights(const Tile& tile, int64_t blocks, int64_t step,
                                            Shared256& shared) {
  const int row = static_cast<int>(threadIdx.x) / 4;
  const int part = static_cast<int>(threadIdx.x) % 4;
  const int64_t from = Smaller(tile.first_row + row, tile.item.rows - 1);
  const auto* block =
      reinterpret_cast<const typename Format::Block*>(tile.item.data) + from * blocks + step;
  const auto w = LanePart<Format>::template Load<kWide>(*block, part);
  STOKER_UNROLL
  for (int r = 0; r < LanePart256::kRuns; ++r) {
    const int run = LanePart<Format>::Run(part, r);
    shared.w[row][run] = make_uint4(w.q[4 * r], w.q[4 * r + 1], w.q[4 * r + 2], w.q[4 * r + 3]);
    shared.scales[row][run] = static_cast<int8_t>(w.scale[r]);
    if constexpr (Format::kHasMinima) shared.minima[row][run] = static_cast<int8_t>(w.minimum[r]);
  }
  if (part == 0) {
    shared.d[row] = w.d;
    if constexpr (Format::kHasMinima) shared.dmin[row] = w.dmin;
  }
}

template <typename Format, bool kWide>
__device__ __forceinline__ void LoadWeights(const Tile& tile, int64_t blocks, int64_t step,
                                            Shared32& shared) {
  const int part = static_cast<int>(threadIdx.x) % 4;
  for (int i = static_cast<int>(threadIdx.x) / 4; i < kTileRows * 8; i += kThreads / 4) {
    const int row = i / 8;
    const int place = i % 8;
    const int64_t from = Smaller(tile.first_row + row, tile.item.rows - 1);
    const int64_t b = Smaller(8 * step + place, blocks - 1);
    const auto* block =
        reinterpret_cast<const typename Format::Block*>(tile.item.data) + from * blocks + b;
    const auto w = LanePart<Format>::template Load<kWide>(*block, part);
    uint32_t* words = WordsOf(shared.w[row]) + 8 * place;
    words[LanePart<Format>::Word(part, 0)] = w.q[0];
    words[LanePart<Format>::Word(part, 1)] = w.q[1];
    if (part == 0) shared.d[row][place] = w.d;
  }
}

template <typename Group, typename Shared>
__device__ __forceinline__ void LoadActivations(const ProductGroup& group, const Tile& tile,
                                                int64_t step, Shared& shared) {
  // Eight threads to a column, 32 bytes each.
  const int column = static_cast<int>(threadIdx.x) / 8;
  const int eighth = static_cast<int>(threadIdx.x) % 8;
  const int64_t from = Smaller(tile.first_column + column, group.x_rows - 1);
  const Group& x = reinterpret_cast<const Group*>(group.x + from * group.x_row_bytes)[step];
  shared.x[column][2 * eighth] = __ldg(reinterpret_cast<const uint4*>(x.q) + 2 * eighth);
  shared.x[column][2 * eighth + 1] = __ldg(reinterpret_cast<const uint4*>(x.q) + 2 * eighth + 1);
  if constexpr (std::is_same_v<Group, Q8x256Group>) {
    shared.sums[column][2 * eighth] = __ldg(x.sums + 2 * eighth);
    shared.sums[column][2 * eighth + 1] = __ldg(x.sums + 2 * eighth + 1);
    if (eighth == 0) shared.dx[column] = __ldg(&x.d);
  } else {
    shared.dx[column][eighth] = __ldg(x.d + eighth);
  }
}

using Strands = float[kThreadRows][kThreadColumns][kStrands];
using Cells = int[kThreadRows][kThreadColumns];

__device__ __forceinline__ int RowOf(int i) { return static_cast<int>(threadIdx.x) % 16 + 16 * i; }
__device__ __forceinline__ int ColumnOf(int j) {
  return static_cast<int>(threadIdx.x) / 16 + 16 * j;
}

// Adds to each cell the dot of 16 values: run `run` of the step.
template <typename Shared>
__device__ __forceinline__ void DotRun(const Shared& shared, int run, Cells& dots) {
  uint4 x[kThreadColumns];
  STOKER_UNROLL
  for (int j = 0; j < kThreadColumns; ++j) x[j] = shared.x[ColumnOf(j)][run];
  STOKER_UNROLL
  for (int i = 0; i < kThreadRows; ++i) {
    const uint4 w = shared.w[RowOf(i)][run];
    STOKER_UNROLL
    for (int j = 0; j < kThreadColumns; ++j) {
      int dot = Dp4a(w.x, x[j].x, dots[i][j]);
      dot = Dp4a(w.y, x[j].y, dot);
      dot = Dp4a(w.z, x[j].z, dot);
      dots[i][j] = Dp4a(w.w, x[j].w, dot);
    }
  }
}

// A step is one block: its strand is the first; then the strands move up by one, so that the next
// block's is.
template <typename Format>
__device__ __forceinline__ void AddStep(const Shared256& shared, int64_t /*blocks_left*/,
                                        Strands& strands) {
  Cells isums = {};
  Cells msums = {};
  for (int run = 0; run < 16; ++run) {
    Cells dots = {};
    DotRun(shared, run, dots);
    STOKER_UNROLL
    for (int i = 0; i < kThreadRows; ++i) {
      const int scale = shared.scales[RowOf(i)][run];
      STOKER_UNROLL
      for (int j = 0; j < kThreadColumns; ++j) {
        isums[i][j] += scale * dots[i][j];
        if constexpr (Format::kHasMinima) {
          msums[i][j] += shared.minima[RowOf(i)][run] * shared.sums[ColumnOf(j)][run];
        }
      }
    }
  }
  STOKER_UNROLL
  for (int i = 0; i < kThreadRows; ++i) {
    STOKER_UNROLL
    for (int j = 0; j < kThreadColumns; ++j) {
      const float dx = shared.dx[ColumnOf(j)];
      float s = strands[i][j][0];
      s = __fmaf_rn(shared.d[RowOf(i)] * dx, static_cast<float>(isums[i][j]), s);
      if constexpr (Format::kHasMinima) {
        s = __fmaf_rn(-(shared.dmin[RowOf(i)] * dx), static_cast<float>(msums[i][j]), s);
      }
      STOKER_UNROLL
      for (int k = 1; k < kStrands; ++k) strands[i][j][k - 1] = strands[i][j][k];
      strands[i][j][kStrands - 1] = s;
    }
  }
}

// A step is up to eight blocks, one for each strand.
template <typename Format>
__device__ __forceinline__ void AddStep(const Shared32& shared, int64_t blocks_left,
                                        Strands& strands) {
  STOKER_UNROLL
  for (int k = 0; k < kStrands; ++k) {
    if (k >= blocks_left) break;
    Cells isums = {};
    DotRun(shared, 2 * k, isums);
    DotRun(shared, 2 * k + 1, isums);
    STOKER_UNROLL
    for (int i = 0; i < kThreadRows; ++i) {
      STOKER_UNROLL
      for (int j = 0; j < kThreadColumns; ++j) {
        strands[i][j][k] = __fmaf_rn(shared.d[RowOf(i)][k] * shared.dx[ColumnOf(j)][k],
                                     static_cast<float>(isums[i][j]), strands[i][j][k]);
      }
    }
  }
}

// Ends the sums. After `moves` moves, strand 0 is at (8 - moves % 8) % 8.
__device__ __forceinline__ void StoreTile(const ProductGroup& group, const Tile& tile,
                                          int64_t moves, Strands& strands) {
  for (; moves % kStrands != 0; ++moves) {
    STOKER_UNROLL
    for (int i = 0; i < kThreadRows; ++i) {
      STOKER_UNROLL
      for (int j = 0; j < kThreadColumns; ++j) {
        const float first = strands[i][j][0];
        STOKER_UNROLL
        for (int k = 1; k < kStrands; ++k) strands[i][j][k - 1] = strands[i][j][k];
        strands[i][j][kStrands - 1] = first;
      }
    }
  }
  STOKER_UNROLL
  for (int i = 0; i < kThreadRows; ++i) {
    STOKER_UNROLL
    for (int j = 0; j < kThreadColumns; ++j) {
      const auto& s = strands[i][j];
      const float even = (s[0] + s[4]) + (s[2] + s[6]);
      const float odd = (s[1] + s[5]) + (s[3] + s[7]);
      const int64_t row = tile.first_row + RowOf(i);
      const int64_t column = tile.first_column + ColumnOf(j);
      if (row < tile.item.rows && column < group.x_rows) {
        tile.item.out[column * tile.item.out_stride + row] = even + odd;
      }
    }
  }
}

// Tiles of the products one after the other, counted through.
__device__ __forceinline__ Tile FindTile(const ProductGroup& group) {
  int64_t tile = blockIdx.x;
  int item = 0;
  while (tile >= (group.items[item].rows + kTileRows - 1) / kTileRows) {
    tile -= (group.items[item++].rows + kTileRows - 1) / kTileRows;
  }
  return {group.items[item], tile * kTileRows, int64_t{blockIdx.y} * kTileColumns};
}

template <typename Format, bool kWide>
__global__ void __launch_bounds__(kThreads) TileKernel(const __grid_constant__ ProductGroup group) {
  STOKER_SHARED(SharedOf<Format>, shared);
  const Tile tile = FindTile(group);
  const int64_t blocks = group.cols / Format::kBlockValues;
  constexpr int64_t kStepBlocks = 256 / Format::kBlockValues;
  const int64_t steps = (blocks + kStepBlocks - 1) / kStepBlocks;
  Strands strands = {};
  for (int64_t step = 0; step < steps; ++step) {
    LoadWeights<Format, kWide>(tile, blocks, step, shared);
    LoadActivations<ActivationGroup<Format>>(group, tile, step, shared);
    __syncthreads();
    AddStep<Format>(shared, blocks - step * kStepBlocks, strands);
    __syncthreads();
  }
  StoreTile(group, tile, kStepBlocks == 1 ? steps : 0, strands);
}

template <typename Format, bool kWide>
int LaunchTiles(const ProductGroup& group, void* native_stream) {
  int64_t tiles = 0;
  for (int i = 0; i < group.count; ++i) tiles += (group.items[i].rows + kTileRows - 1) / kTileRows;
  const int64_t columns = (group.x_rows + kTileColumns - 1) / kTileColumns;
  return LaunchKernel(TileKernel<Format, kWide>,
                      {.kernel = "matmul_rows (tile)",
                       .grid = {static_cast<unsigned>(tiles), static_cast<unsigned>(columns)},
                       .block = kThreads},
                      native_stream, group);
}

}  // namespace

int TileProducts(Dtype dtype, const ProductGroup& group, void* native_stream) {
  int code = 0;
  VisitFormat(Formats{}, dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (!kIsFloatFormat<Format>) {
      if constexpr (CanBeWide<Format>()) {
        if (IsWide(group)) {
          code = LaunchTiles<Format, true>(group, native_stream);
          return;
        }
      }
      code = LaunchTiles<Format, false>(group, native_stream);
    }
  });
  return code;
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
