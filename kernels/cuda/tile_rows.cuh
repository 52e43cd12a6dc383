// One step of a tile in shared memory: weights unpacked to bytes and activations, 256 columns of
// each, with their scales.
#pragma once

#include "kernels/cuda/dot.cuh"
#include "kernels/cuda/lane_part.cuh"
#include "kernels/cuda/port.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// A block of threads computes kTileRows rows of weights by TileShape::kColumns activation rows.
inline constexpr int kTileRows = 64;
inline constexpr int kTileWarps = 8;
inline constexpr int kTileThreads = 32 * kTileWarps;
inline constexpr int kTileStrands = 8;
inline constexpr int kTileRuns = 16;  // of 16 values, in a step

// A warp computes kWarpRows of these by kPairs times kPairColumns.
inline constexpr int kWarpRows = 16;
inline constexpr int kPairColumns = 16;
inline constexpr int kRowWarps = kTileRows / kWarpRows;
template <ActivationKind kKind>
struct TileShape {
  static constexpr int kPairs = kKind == ActivationKind::kQ8x256 ? 2 : 1;
  static constexpr int kWarpColumns = kPairs * kPairColumns;
  static constexpr int kColumns = kTileWarps / kRowWarps * kWarpColumns;
};
template <typename Format>
using TileShapeOf = TileShape<Format::kActivation>;

// One step of a row of weights or of activations: 256 bytes, and all that goes with them. Rows are
// an odd number of 16 bytes: then 16 bytes of eight rows, one below the other, lie in different
// banks. What stands right behind the bytes is read as run 16 of the row.
struct alignas(16) WeightRow256 {
  uint4 q[kTileRuns];
  int8_t minima[kTileRuns];
  int8_t scales[kTileRuns];
  float d;
  float dmin;
  float unused[2];
};
struct alignas(16) InputRow256 {
  uint4 q[kTileRuns];
  // Of the sum of each run, which is within +-2048: 128 high + low.
  int8_t sums_low[kTileRuns];
  int8_t sums_high[kTileRuns];
  float d;
  float unused[3];
};
struct alignas(16) TileRow32 {
  uint4 q[kTileRuns];
  float d[kTileStrands];
  float unused[4];
};
static_assert(sizeof(WeightRow256) == 304 && sizeof(InputRow256) == 304 &&
              sizeof(TileRow32) == 304);

// Cells of a thread whose sum of even strands waits in shared memory: 128 registers are what two
// blocks on a multiprocessor leave a thread, and with these cells' the compiler spills.
inline constexpr int kParkedCells = 9;

// One step of a tile. Rows and columns past the end repeat the last.
struct TileOf256 {
  WeightRow256 w[kTileRows];
  InputRow256 x[TileShape<ActivationKind::kQ8x256>::kColumns];
  float parked[kParkedCells][kTileThreads];
};
struct TileOf32 {
  TileRow32 w[kTileRows];
  TileRow32 x[TileShape<ActivationKind::kQ8x32>::kColumns];
};
template <typename Format>
using TileOf =
    std::conditional_t<Format::kActivation == ActivationKind::kQ8x32, TileOf32, TileOf256>;

// Part `part` of a block, by wide reads where the matrix allows them.
template <typename Format>
__device__ __forceinline__ LanePart<Format> LoadPart(const typename Format::Block& block, int part,
                                                     bool is_wide) {
  if constexpr (LanePart<Format>::kCanBeWide) {
    if (is_wide) return LanePart<Format>::template Load<true>(block, part);
  }
  return LanePart<Format>::template Load<false>(block, part);
}

// Reads the weights of a tile: four threads to a block of the format.
template <typename Format>
class TileWeights {
 public:
  __device__ TileWeights(const std::byte* w, int rows, int64_t cols)
      : w_(reinterpret_cast<const Block*>(w)),
        last_row_(rows - 1),
        blocks_(static_cast<int>(cols / Format::kBlockValues)),
        is_wide_(reinterpret_cast<uintptr_t>(w) % 16 == 0) {}
  // Of a row.
  __device__ int blocks() const { return blocks_; }

  // Block b of each row.
  __device__ __forceinline__ void Load(int b, TileOf256& tile) const {
    const int part = static_cast<int>(threadIdx.x) % 4;
    const int row = static_cast<int>(threadIdx.x) / 4;
    const LanePart<Format> w = LoadPart<Format>(RowAt(row)[b], part, is_wide_);
    WeightRow256& to = tile.w[row];
    STOKER_UNROLL
    for (int r = 0; r < LanePart256::kRuns; ++r) {
      const int run = LanePart<Format>::Run(part, r);
      to.q[run] = make_uint4(w.q[4 * r], w.q[4 * r + 1], w.q[4 * r + 2], w.q[4 * r + 3]);
      to.scales[run] = static_cast<int8_t>(w.scale[r]);
      if constexpr (Format::kHasMinima) to.minima[run] = static_cast<int8_t>(w.minimum[r]);
    }
    if (part == 0) {
      to.d = w.d;
      if constexpr (Format::kHasMinima) to.dmin = w.dmin;
    }
  }

  // Blocks 8 step to 8 step + 7 of each row; past the end, the last once more.
  __device__ __forceinline__ void Load(int step, TileOf32& tile) const {
    const int part = static_cast<int>(threadIdx.x) % 4;
    const int strand = static_cast<int>(threadIdx.x) / 4 % kTileStrands;
    const int wanted = kTileStrands * step + strand;
    const int b = wanted < blocks_ ? wanted : blocks_ - 1;
    STOKER_UNROLL_BY(4)
    for (int row = static_cast<int>(threadIdx.x) / 32; row < kTileRows; row += kTileWarps) {
      const LanePart<Format> w = LoadPart<Format>(RowAt(row)[b], part, is_wide_);
      auto* words = reinterpret_cast<uint32_t*>(tile.w[row].q + 2 * strand);
      words[LanePart<Format>::Word(part, 0)] = w.q[0];
      words[LanePart<Format>::Word(part, 1)] = w.q[1];
      if (part == 0) tile.w[row].d[strand] = w.d;
    }
  }

 private:
  using Block = typename Format::Block;
  __device__ __forceinline__ const Block* RowAt(int row) const {
    return w_ + int64_t{row < last_row_ ? row : last_row_} * blocks_;
  }

  const Block* w_;
  int last_row_;
  int blocks_;
  bool is_wide_;
};

// Reads the activations of a tile: eight threads to a row.
template <typename Format>
class TileInputs {
 public:
  static constexpr int kColumns = TileShapeOf<Format>::kColumns;
  static constexpr int kMine = kColumns / (kTileThreads / 8);

  template <typename Tile>
  __device__ explicit TileInputs(const Tile& tile) {
    const int last = tile.columns() - 1;
    STOKER_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const int column = ColumnAt(i);
      rows_[i] = reinterpret_cast<const Group*>(tile.InputOf(column < last ? column : last));
    }
  }

  __device__ __forceinline__ void Load(int group, TileOf<Format>& tile) const {
    const int eighth = static_cast<int>(threadIdx.x) % 8;
    STOKER_UNROLL
    for (int i = 0; i < kMine; ++i) {
      const Group& x = rows_[i][group];
      auto& to = tile.x[ColumnAt(i)];
      const auto* q = reinterpret_cast<const uint4*>(x.q);
      to.q[eighth] = __ldg(q + eighth);
      to.q[eighth + 8] = __ldg(q + eighth + 8);
      LoadScales(x, eighth, to);
    }
  }

 private:
  using Group = ActivationGroup<Format>;
  __device__ __forceinline__ static int ColumnAt(int i) {
    return static_cast<int>(threadIdx.x) / 8 + i * (kTileThreads / 8);
  }
  __device__ __forceinline__ static void LoadScales(const Q8x256Group& x, int eighth,
                                                    InputRow256& to) {
    if constexpr (LanePart<Format>::kHasMinima) {
      const uint32_t pair = __ldg(reinterpret_cast<const uint32_t*>(x.sums) + eighth);
      reinterpret_cast<uint16_t*>(to.sums_low)[eighth] =
          static_cast<uint16_t>((pair & 0x7fu) | ((pair >> 8) & 0x7f00u));
      reinterpret_cast<uint16_t*>(to.sums_high)[eighth] =
          static_cast<uint16_t>(((pair >> 7) & 0xffu) | ((pair >> 15) & 0xff00u));
    }
    if (eighth == 0) to.d = __ldg(&x.d);
  }
  __device__ __forceinline__ static void LoadScales(const Q8x32Group& x, int eighth,
                                                    TileRow32& to) {
    to.d[eighth] = __ldg(x.d + eighth);
  }

  const Group* rows_[kMine];
};

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
