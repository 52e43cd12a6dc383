// Experts with many pairs, by tiles: gate, then up with the gated product, its quantized forms, and
// down, each a launch over all experts of the group.
//
// A tile is of one expert. Which expert has how many pairs is known to the device alone, so as many
// blocks are launched as there can be tiles, and each finds its own by counting through the tasks.
#include "kernels/cuda/expert_tile.cuh"

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/elementary.h"
#include "kernels/formats/formats.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

enum class ExpertPart : uint8_t { kGate, kUp, kDown };

// One of the three products of all experts.
struct ExpertProduct {
  ExpertGroupArgs args;
  ExpertPart part;
  int64_t rows;
  int64_t cols;
  const std::byte* x;
  int64_t x_row_bytes;
};

// A block's tile: up to kColumns pairs of one expert.
struct FoundTile {
  int task;
  int first;  // of the list of pairs
  int columns;
};

// Tile number `tile` of all tasks, counted through; no columns where there are fewer. The warp
// looks at 32 tasks at a time.
template <int kColumns>
__device__ FoundTile FindTile(const ExpertGroupArgs& args, int tile) {
  const int lane = LaneIndex();
  for (int first = 0; first < args.task_count; first += 32) {
    const int pairs = first + lane < args.task_count ? args.tasks[first + lane].pair_count : 0;
    const int tiles = (pairs + kColumns - 1) / kColumns;
    int up_to = tiles;  // of this lane's task and those before
    STOKER_UNROLL
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(kAllLanes, up_to, step);
      if (lane >= step) up_to += before;
    }
    const uint32_t beyond = __ballot_sync(kAllLanes, up_to > tile);
    if (beyond == 0) {
      tile -= __shfl_sync(kAllLanes, up_to, 31);
      continue;
    }
    const int at = __ffs(static_cast<int>(beyond)) - 1;
    const int done = (tile - __shfl_sync(kAllLanes, up_to - tiles, at)) * kColumns;
    const int left = __shfl_sync(kAllLanes, pairs, at) - done;
    return {first + at, args.tasks[first + at].first_pair + done,
            left < kColumns ? left : kColumns};
  }
  return {0, 0, 0};
}

template <typename Format>
class ExpertTile {
 public:
  // `found` is in shared memory.
  __device__ ExpertTile(const ExpertProduct& product, const FoundTile& found)
      : product_(product), found_(found) {}
  __device__ const std::byte* weights() const {
    const ExpertTask& task = product_.args.tasks[found_.task];
    const std::byte* w = product_.part == ExpertPart::kGate ? task.gate
                         : product_.part == ExpertPart::kUp ? task.up
                                                            : task.down;
    return w + first_row() * RowBytesOf<Format>(product_.cols);
  }
  __device__ int rows() const {
    const int64_t left = product_.rows - first_row();
    return left < kTileRows ? static_cast<int>(left) : kTileRows;
  }
  __device__ int columns() const { return found_.columns; }
  __device__ bool IsIdle(int row, int column) const { return row >= rows() || column >= columns(); }
  __device__ const std::byte* InputOf(int column) const {
    const int at = found_.first + column;
    const ExpertGroupArgs& args = product_.args;
    const int row = product_.part == ExpertPart::kDown ? at : args.pairs[at] / args.top_k;
    return product_.x + row * product_.x_row_bytes;
  }
  // Up finds in its cell what gate has left there.
  __device__ void Store(int row_in_tile, int column, float value) const {
    const ExpertGroupArgs& args = product_.args;
    const int64_t row = first_row() + row_in_tile;
    const int at = found_.first + column;
    if (product_.part == ExpertPart::kDown) {
      const int32_t pair = args.pairs[at];
      const int64_t place = args.places == nullptr ? pair : args.places[pair];
      args.partial[place * args.partial_stride + row] = value;
      return;
    }
    float& cell = args.gated[at * args.gated_stride + row];
    cell = product_.part == ExpertPart::kGate ? value : Silu(F32x1{cell}).value * value;
  }

 private:
  __device__ static int64_t first_row() { return int64_t{blockIdx.x} * kTileRows; }

  const ExpertProduct& product_;
  const FoundTile& found_;
};

template <typename Format>
__global__ void __launch_bounds__(kTileThreads, 2)
    ExpertTileKernel(const __grid_constant__ ExpertProduct product) {
  STOKER_SHARED(FoundTile, found);
  if (threadIdx.x < 32) {
    const FoundTile mine =
        FindTile<TileShapeOf<Format>::kColumns>(product.args, static_cast<int>(blockIdx.y));
    if (threadIdx.x == 0) found = mine;
  }
  __syncthreads();
  if (found.columns == 0) return;
  RunTile<Format>(ExpertTile<Format>(product, found), product.cols);
}

template <typename Format>
int LaunchProduct(const ExpertProduct& product, void* native_stream) {
  constexpr int kColumns = TileShapeOf<Format>::kColumns;
  const int64_t row_tiles = (product.rows + kTileRows - 1) / kTileRows;
  // The most that there can be: each task may end in a tile of one pair.
  const int64_t pair_tiles =
      (product.args.pair_total + int64_t{kColumns - 1} * product.args.task_count) / kColumns;
  return LaunchKernel(
      ExpertTileKernel<Format>,
      {.kernel = "expert_group (tile)",
       .grid = {static_cast<unsigned>(row_tiles), static_cast<unsigned>(pair_tiles)},
       .block = kTileThreads},
      native_stream, product);
}

// The product of `w`, which tells shape and format, with rows of x or of the gated values.
int MultiplyPart(const ExpertGroupArgs& args, ExpertPart part, const MatrixView& w,
                 void* native_stream) {
  const ActivationKind kind = ActivationKindOf(w.dtype);
  const bool is_down = part == ExpertPart::kDown;
  const std::byte* q8x32 = is_down ? args.gated_q8x32 : args.x.q8x32;
  const std::byte* q8x256 = is_down ? args.gated_q8x256 : args.x.q8x256;
  const ExpertProduct product = {args,
                                 part,
                                 w.rows,
                                 w.cols,
                                 kind == ActivationKind::kQ8x32 ? q8x32 : q8x256,
                                 static_cast<int64_t>(ActivationRowBytes(kind, w.cols))};
  int code = 0;
  VisitFormat(Formats{}, w.dtype, [&](auto format) {
    using Format = decltype(format);
    if constexpr (!kIsFloatFormat<Format>) code = LaunchProduct<Format>(product, native_stream);
  });
  return code;
}

bool HasTiles(const MatrixView& w) { return ActivationKindOf(w.dtype) != ActivationKind::kF32; }

}  // namespace

bool IsForTiles(const ExpertGroupArgs& args) {
  return args.pair_total > kWalkRowsMax * args.task_count && HasTiles(args.gate) &&
         HasTiles(args.up) && HasTiles(args.down);
}

int ExpertGroupTiles(const ExpertGroupArgs& args, void* native_stream) {
  int code = MultiplyPart(args, ExpertPart::kGate, args.gate, native_stream);
  if (code != 0) return code;
  code = MultiplyPart(args, ExpertPart::kUp, args.up, native_stream);
  if (code != 0) return code;
  const ActivationKind kind = ActivationKindOf(args.down.dtype);
  code = QuantizeRows({.x = args.gated,
                       .rows = args.pair_total,
                       .cols = args.down.cols,
                       .stride = args.gated_stride,
                       .q8x32 = kind == ActivationKind::kQ8x32 ? args.gated_q8x32 : nullptr,
                       .q8x256 = kind == ActivationKind::kQ8x256 ? args.gated_q8x256 : nullptr},
                      native_stream);
  if (code != 0) return code;
  return MultiplyPart(args, ExpertPart::kDown, args.down, native_stream);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
