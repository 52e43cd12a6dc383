// Experts of few pairs that are in device memory, computed in one launch: gate and up, their gated
// product, and down. Those of many pairs are computed in tiles (expert_tile.cu).
//
// Work is cut into items that a block of threads takes one of: kGatedRows rows of an expert's gate
// and up, or kDownRows rows of its down. Blocks draw items by ticket, all gate items before all
// down items, and only down items wait, for gate items: those have been drawn before, by blocks
// that run to their end whatever the others do. So whichever blocks are resident, none waits for
// ever. How many items there are does not depend on how many pairs an expert has; and where how
// many experts there are is found in device memory, blocks that draw no item leave at once. So a
// recorded launch serves any choice of experts.
//
// The gated values are quantized a group of 256 at a time by the block that completes the group's
// last item; then the group is counted for its expert, whose down items wait for all of them.
#include "kernels/cuda/expert_task.cuh"
#include "kernels/cuda/expert_tile.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/port.cuh"
#include "kernels/cuda/quantize.cuh"
#include "kernels/cuda/two_rows.cuh"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kErrorInvalidValue = 1;  // cudaErrorInvalidValue

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kGroupValues = 256;
constexpr int kGatedRows = 2 * kWarps;
constexpr int kDownRows = 4 * kWarps;
constexpr int kItemsPerGroup = kGroupValues / kGatedRows;

// One of an expert's three matrices: how its rows lie, and the activation rows they meet.
struct Walk {
  Dtype dtype;
  int64_t rows;
  int64_t cols;
  int64_t row_bytes;
  const std::byte* x;
  uint32_t x_units;  // of Columns, from one activation row to the next
};

// How the work of an expert is cut.
struct ExpertShape {
  Walk gate, up, down;
  int32_t gate_items;
  int32_t down_items;
  int32_t groups;  // of gated values
  int32_t counters;
  std::byte* gated_q8x32;  // null unless down wants it, both
  std::byte* gated_q8x256;
};

// The counters of a launch, all of them zero before and after.
class Counters {
 public:
  __device__ Counters(const ExpertGroupArgs& args, const ExpertShape& shape)
      : counters_(args.counters), tasks_(args.task_count), groups_(shape.groups) {}
  __device__ int32_t* drawn() const { return counters_; }
  __device__ int32_t* left() const { return counters_ + 1; }
  // Groups of an expert's gated values that are complete.
  __device__ int32_t* groups(int task) const { return counters_ + 2 + task; }
  // Items of a group that are complete.
  __device__ int32_t* items(int task, int group) const {
    return counters_ + 2 + tasks_ + task * groups_ + group;
  }

 private:
  int32_t* counters_;
  int tasks_;
  int groups_;
};

// What thread 0 finds in a counter as it adds 1, told to the whole block. Everything that the block
// wrote before is seen by whoever finds this addition; the block sees what those whose additions it
// finds wrote.
__device__ int32_t CountForBlock(int32_t* counter) {
  STOKER_SHARED(int32_t, found);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    found = atomicAdd(counter, 1);
    __threadfence();
  }
  __syncthreads();
  return found;
}

// Holds the block until a counter has come to `target`.
__device__ void AwaitCounter(const int32_t* counter, int32_t target) {
  if (threadIdx.x == 0) {
    while (*static_cast<const volatile int32_t*>(counter) != target) WaitALittle();
    __threadfence();
  }
  __syncthreads();
}

// A warp's share of an item: two times two rows of weights. Of a gate item these are gate and up of
// rows `row` and `row` + 1, of a down item the rows from `row` on.
struct Share {
  int task_index = 0;
  ExpertTask task;
  bool is_gate = false;
  int64_t row = 0;
};

// A task, and pair number `at` of the list. Only one column wide are there groups without lists.
template <int kCols>
__device__ __forceinline__ ExpertTask TaskAt(const ExpertGroupArgs& args, int task) {
  if constexpr (kCols == 1) {
    if (args.chosen != nullptr) return TaskOf(args.addresses, args.chosen[task], task, 1);
  }
  return args.tasks[task];
}
template <int kCols>
__device__ __forceinline__ int32_t PairAt(const ExpertGroupArgs& args, int at) {
  if constexpr (kCols == 1) {
    if (args.chosen != nullptr) return at;
  }
  return args.pairs[at];
}

// Row `row` of a matrix, or its last, where a share reaches beyond the end: what it gives is left.
__device__ const std::byte* RowOf(const std::byte* data, const Walk& walk, int64_t row) {
  return data + (row < walk.rows ? row : walk.rows - 1) * walk.row_bytes;
}

// The two rows that are walked in step i of a share.
__device__ TwoRows RowsOf(const Share& share, const Walk& walk, bool is_mixed, int i) {
  if (!share.is_gate) {
    return {RowOf(share.task.down, walk, share.row + 2 * i),
            RowOf(share.task.down, walk, share.row + 2 * i + 1)};
  }
  if (is_mixed) {
    const std::byte* data = i == 0 ? share.task.gate : share.task.up;
    return {RowOf(data, walk, share.row), RowOf(data, walk, share.row + 1)};
  }
  return {RowOf(share.task.gate, walk, share.row + i), RowOf(share.task.up, walk, share.row + i)};
}

// The activation rows that pairs [first, first + count) of the list meet; the first again where
// there are fewer than kCols.
template <int kCols>
__device__ Columns<kCols> ColumnsOf(const ExpertGroupArgs& args, const Walk& walk, bool is_gate,
                                    int first, int count) {
  Columns<kCols> x = {.base = walk.x};
  for (int j = 0; j < kCols; ++j) {
    const int at = first + (j < count ? j : 0);
    x.offset[j] =
        static_cast<uint32_t>(is_gate ? PairAt<kCols>(args, at) / args.top_k : at) * walk.x_units;
  }
  return x;
}

__device__ void StoreGated(const ExpertGroupArgs& args, int64_t row, int at, float gate, float up) {
  if (row >= args.gate.rows) return;
  args.gated[at * args.gated_stride + row] = Silu(F32x1{gate}).value * up;
}

template <int kCols>
__device__ void StorePart(const ExpertGroupArgs& args, int64_t row, int at, float part) {
  if (row >= args.down.rows) return;
  const int32_t pair = PairAt<kCols>(args, at);
  const int64_t place = args.places == nullptr ? pair : args.places[pair];
  args.partial[place * args.partial_stride + row] = part;
}

// The share's rows times the rows of `count` pairs, from `first` of the list on; count <= kCols.
template <int kCols>
__device__ void RunPairs(const ExpertGroupArgs& args, const ExpertShape& shape, const Share& share,
                         int first, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  const bool is_mixed = args.gate.dtype != args.up.dtype;
  const int at = first + lane;
  TwoDots before = {};
  // Gate and up of one format are walked side by side, a gated row at a time; of two formats, both
  // rows of the one and then of the other.
  STOKER_UNROLL_BY(1)  // the body is large
  for (int i = 0; i < 2; ++i) {
    const Walk& walk = !share.is_gate ? shape.down : is_mixed && i == 1 ? shape.up : shape.gate;
    const TwoRows rows = RowsOf(share, walk, is_mixed, i);
    const Columns<kCols> x = ColumnsOf<kCols>(args, walk, share.is_gate, first, count);
    const TwoDots found = DotTwoRows(walk.dtype, rows, x, walk.cols, lane);
    if (lane < count) {
      if (!share.is_gate) {
        StorePart<kCols>(args, share.row + 2 * i, at, found.first);
        StorePart<kCols>(args, share.row + 2 * i + 1, at, found.second);
      } else if (!is_mixed) {
        StoreGated(args, share.row + i, at, found.first, found.second);
      } else if (i == 1) {
        StoreGated(args, share.row, at, before.first, found.first);
        StoreGated(args, share.row + 1, at, before.second, found.second);
      }
    }
    before = found;
  }
}

// All pairs of a task, kCols at a time.
template <int kCols>
__device__ void RunShare(const ExpertGroupArgs& args, const ExpertShape& shape,
                         const Share& share) {
  const int end = share.task.first_pair + share.task.pair_count;
  for (int first = share.task.first_pair; first < end; first += kCols) {
    const int count = end - first < kCols ? end - first : kCols;
    RunPairs<kCols>(args, shape, share, first, count);
  }
}

// Counts a gate item that is done. Whoever completes a group of gated values quantizes it and
// counts the group.
__device__ void FinishGateItem(const ExpertGroupArgs& args, const ExpertShape& shape,
                               const Counters& counters, const Share& share, int item) {
  const int group = item / kItemsPerGroup;
  const int items_left = shape.gate_items - group * kItemsPerGroup;
  const int items = items_left < kItemsPerGroup ? items_left : kItemsPerGroup;
  if (CountForBlock(counters.items(share.task_index, group)) != items - 1) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  for (int i = warp; i < share.task.pair_count; i += kWarps) {
    const int64_t at = share.task.first_pair + i;
    float x[kLaneValues];
    LoadLaneValues(args.gated + at * args.gated_stride, group, shape.down.cols, x);
    QuantizeInto(x, at, group, shape.down.cols, shape.gated_q8x32, shape.gated_q8x256);
  }
  CountForBlock(counters.groups(share.task_index));
}

// Leaves the counters as they were found, once nobody reads them any more.
__device__ void Leave(const ExpertGroupArgs& args, const ExpertShape& shape,
                      const Counters& counters) {
  if (CountForBlock(counters.left()) != static_cast<int>(gridDim.x) - 1) return;
  for (int i = static_cast<int>(threadIdx.x); i < shape.counters; i += kThreads) {
    args.counters[i] = 0;
  }
}

// One item, `item` of those of all tasks.
template <int kCols>
__device__ void RunOne(const ExpertGroupArgs& args, const ExpertShape& shape,
                       const Counters& counters, int item, int gate_items) {
  Share share;
  share.is_gate = item < gate_items;
  if (!share.is_gate) item -= gate_items;
  const int items = share.is_gate ? shape.gate_items : shape.down_items;
  share.task_index = item / items;
  share.task = TaskAt<kCols>(args, share.task_index);
  item %= items;
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  share.row = share.is_gate ? item * kGatedRows + warp * (kGatedRows / kWarps)
                            : item * kDownRows + warp * (kDownRows / kWarps);
  if (!share.is_gate) AwaitCounter(counters.groups(share.task_index), shape.groups);
  RunShare<kCols>(args, shape, share);
  if (share.is_gate) FinishGateItem(args, shape, counters, share, item);
}

// Blocks that a multiprocessor holds at least: what leaves each kernel the registers it needs.
constexpr int BlocksAtOnce(int cols) { return cols == 1 ? 4 : cols == 2 ? 3 : 2; }

template <int kCols>
__global__ void __launch_bounds__(kThreads, BlocksAtOnce(kCols))
    RunItem(const __grid_constant__ ExpertGroupArgs args,
            const __grid_constant__ ExpertShape shape) {
  const Counters counters(args, shape);
  const int tasks = args.tasks_there == nullptr ? args.task_count : *args.tasks_there;
  const int gate_items = tasks * shape.gate_items;
  const int item = CountForBlock(counters.drawn());
  if (item < gate_items + tasks * shape.down_items) {
    RunOne<kCols>(args, shape, counters, item, gate_items);
  }
  Leave(args, shape, counters);
}

Walk WalkOf(const MatrixView& w, const DeviceActivations& x) {
  const ActivationKind kind = ActivationKindOf(w.dtype);
  Walk walk = {.dtype = w.dtype,
               .rows = w.rows,
               .cols = w.cols,
               .row_bytes = static_cast<int64_t>(w.row_bytes())};
  walk.x_units = static_cast<uint32_t>(ActivationRowBytes(kind, w.cols) / kColumnUnit);
  switch (kind) {
    case ActivationKind::kF32:
      walk.x = reinterpret_cast<const std::byte*>(x.x);
      walk.x_units = static_cast<uint32_t>(x.stride * sizeof(float) / kColumnUnit);
      break;
    case ActivationKind::kQ8x32:
      walk.x = x.q8x32;
      break;
    case ActivationKind::kQ8x256:
      walk.x = x.q8x256;
      break;
  }
  return walk;
}

int32_t PiecesOf(int64_t count, int piece) {
  return static_cast<int32_t>((count + piece - 1) / piece);
}

}  // namespace

int ExpertGroup(const ExpertGroupArgs& args, void* native_stream) {
  if (args.chosen != nullptr && args.pair_total != args.task_count) return kErrorInvalidValue;
  if (IsForTiles(args)) return ExpertGroupTiles(args, native_stream);
  const DeviceActivations gated = {.x = args.gated,
                                   .stride = args.gated_stride,
                                   .q8x32 = args.gated_q8x32,
                                   .q8x256 = args.gated_q8x256};
  const ActivationKind kind = ActivationKindOf(args.down.dtype);
  const ExpertShape shape = {
      .gate = WalkOf(args.gate, args.x),
      .up = WalkOf(args.up, args.x),
      .down = WalkOf(args.down, gated),
      .gate_items = PiecesOf(args.gate.rows, kGatedRows),
      .down_items = PiecesOf(args.down.rows, kDownRows),
      .groups = PiecesOf(args.gate.rows, kGroupValues),
      .counters = ExpertCounters(args.task_count, args.gate.rows),
      .gated_q8x32 = kind == ActivationKind::kQ8x32 ? args.gated_q8x32 : nullptr,
      .gated_q8x256 = kind == ActivationKind::kQ8x256 ? args.gated_q8x256 : nullptr};
  const int64_t items = int64_t{args.task_count} * (shape.gate_items + shape.down_items);
  // As many columns as experts have pairs, in the mean: more would be computed for nothing, fewer
  // walk the weights again. Any count is right.
  const auto run = args.pair_total <= args.task_count       ? RunItem<1>
                   : args.pair_total <= 2 * args.task_count ? RunItem<2>
                   : args.pair_total <= 4 * args.task_count ? RunItem<4>
                                                            : RunItem<8>;
  return LaunchKernel(
      run, {.kernel = "expert_group", .grid = static_cast<unsigned>(items), .block = kThreads},
      native_stream, args, shape);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
