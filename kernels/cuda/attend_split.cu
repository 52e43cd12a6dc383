// Attention of few rows over many positions: scores of all tiles side by side, then a walk over
// them.
//
// A row's result is a chain of one fma a key for each value, in the order of keys, so the walk
// cannot be cut by position. What can be: the scores, which are as much of the reading, by tile;
// and the chains, which are heads times values. The walk's blocks are therefore narrow, half of
// their warps walk while the other half turn the next tile's scores into probabilities, and what
// is read is asked for tiles ahead.
#include "kernels/cuda/attend_tile.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

// Heads of one row that are walked by one block.
constexpr int kUnitHeadsMax = 8;
constexpr int kWalkers = 128;  // threads; as many again prepare
constexpr int kThreads = 2 * kWalkers;
constexpr int kWalkerDims = kWalkers / kUnitHeadsMax;  // threads of a head
constexpr int kWeightStride = kTileKeys + 4;           // two heads are read from different banks
// Of which a thread scores one at a time: reading keys is what takes long, and the more blocks are
// on a multiprocessor, the more keys are on their way.
constexpr int kEach = 1;
// Blocks that score a unit's tiles, at most: each takes every so-many-th tile.
constexpr int kScoreBlocksMax = 256;

// A unit is a row and up to kUnitHeadsMax heads that share keys. Its scores are [head_span,
// position_span] in scratch.
struct SplitShape {
  int64_t first_unit = 0;  // of this launch
  int32_t head_span = 1;
  int32_t head_groups = 1;  // of a key-value head
  int32_t position_span = 0;
  bool keys_are_wide = false;
  bool values_are_wide = false;
};

struct Unit {
  int64_t row;
  int kv_head;
  int first_head;
  int heads;
  RowPlace place;
  float* scores;

  __device__ __forceinline__ Unit(const AttendRowsArgs& args, const SplitShape& shape,
                                  unsigned index) {
    const int group = args.heads / args.kv_heads;
    const int64_t units_of_row = int64_t{args.kv_heads} * shape.head_groups;
    const int64_t unit = shape.first_unit + index;
    row = unit / units_of_row;
    const int within = static_cast<int>(unit % units_of_row);
    kv_head = within / shape.head_groups;
    const int head_in_group = within % shape.head_groups * shape.head_span;
    first_head = kv_head * group + head_in_group;
    heads = min(shape.head_span, group - head_in_group);
    place = args.places[row];
    scores = args.scratch + int64_t{index} * shape.head_span * shape.position_span;
  }
  __device__ __forceinline__ int32_t Page(const KvLayer& kv, int tile) const {
    return kv.table[int64_t{place.sequence} * kv.pages_per_sequence + tile];
  }
};

template <typename Element>
__global__ void __launch_bounds__(kScoreThreads, 1)
    ScoreUnits(const __grid_constant__ AttendRowsArgs args,
               const __grid_constant__ SplitShape shape) {
  STOKER_DYNAMIC_SHARED(float, staged);
  const int pass_keys = PassKeys<kEach>(shape.head_span);
  float* q = staged + pass_keys * kStagedStride;
  const Unit unit(args, shape, blockIdx.y);
  const int visible = unit.place.position + 1;
  if (static_cast<int>(blockIdx.x) * kTileKeys >= visible) return;
  StageQueries<kEach>(q, unit.heads, args.key_dim, [&](int t) {
    return args.q + unit.row * args.q_row_stride + (unit.first_head + t) * args.q_head_stride;
  });
  const auto keys = KeyRows<Element>(args, unit.kv_head, shape.keys_are_wide);
  for (int tile = static_cast<int>(blockIdx.x); tile * kTileKeys < visible;
       tile += static_cast<int>(gridDim.x)) {
    float* scores = unit.scores + int64_t{tile} * kTileKeys;
    ScoreTile<kEach>({q, staged, unit.heads, pass_keys}, keys, keys.Page(unit.Page(args.kv, tile)),
                     min(visible - tile * kTileKeys, kTileKeys), args.scale,
                     [&](int key, int query, float score) {
                       scores[int64_t{query} * shape.position_span + key] = score;
                     });
  }
}

// What preparing warps hand to walking ones, twice: of the tile at hand and the next.
struct Prepared {
  float weights[kUnitHeadsMax * kWeightStride];
  float corrections[kUnitHeadsMax];
};

// One warp's share of preparing: two heads of the unit.
struct Preparer {
  const Unit& unit;
  int32_t position_span;
  int visible;
  RunningSoftmax running[2];
  float low[2], high[2];  // scores of the next tile, on their way

  __device__ __forceinline__ int Head(int i) const {
    return (static_cast<int>(threadIdx.x) - kWalkers) / 32 + 4 * i;
  }
  __device__ __forceinline__ void Load(int tile) {
    const int key = tile * kTileKeys + static_cast<int>(threadIdx.x) % 32;
    STOKER_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (Head(i) >= unit.heads) continue;
      const float* scores = unit.scores + int64_t{Head(i)} * position_span;
      low[i] = key < visible ? scores[key] : 0.0f;
      high[i] = key + 32 < visible ? scores[key + 32] : 0.0f;
    }
  }
  // Prepares a tile whose scores are loaded, and loads those of the next.
  __device__ __forceinline__ void Prepare(int tile, Prepared& prepared) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    TileStep steps[2] = {};
    STOKER_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (Head(i) >= unit.heads) continue;
      steps[i] = NextTile(running[i], low[i], high[i], visible - tile * kTileKeys);
    }
    Load(tile + 1);
    STOKER_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (Head(i) >= unit.heads) continue;
      float* weights = prepared.weights + Head(i) * kWeightStride;
      weights[lane] = steps[i].low;
      weights[lane + 32] = steps[i].high;
      if (lane == 0) prepared.corrections[Head(i)] = steps[i].correction;
    }
  }
};

// One thread's share of walking: kDims neighbouring values of one head; and of bringing in a tile's
// values, kDims groups of eight.
template <typename Element, int kDims>
struct Walker {
  static constexpr int kSlice = kWalkerDims * kDims;  // values of a block
  HeadRows<Element> rows;
  int first_value;  // of the block
  int head = static_cast<int>(threadIdx.x) / kWalkerDims;
  int dim = static_cast<int>(threadIdx.x) % kWalkerDims * kDims;  // within the slice
  float o[kDims] = {};

  struct Ahead {
    Eight<Element> groups[kDims];
  };
  static __device__ __forceinline__ int GroupKey(int i) {
    return (static_cast<int>(threadIdx.x) + kWalkers * i) / (kSlice / 8);
  }
  static __device__ __forceinline__ int GroupDim(int i) {
    return (static_cast<int>(threadIdx.x) + kWalkers * i) % (kSlice / 8) * 8;
  }
  __device__ __forceinline__ Ahead Load(const Element* page, int key_count) const {
    Ahead ahead = {};
    STOKER_UNROLL
    for (int i = 0; i < kDims; ++i) {
      if (GroupKey(i) >= key_count) continue;
      ahead.groups[i] =
          LoadEight(rows, page + GroupKey(i) * rows.stride, first_value + GroupDim(i));
    }
    return ahead;
  }
  static __device__ __forceinline__ void Store(const Ahead& ahead, float* values) {
    STOKER_UNROLL
    for (int i = 0; i < kDims; ++i) {
      float* group = values + GroupKey(i) * kSlice + GroupDim(i);
      STOKER_UNROLL
      for (int j = 0; j < 8; ++j) group[j] = ahead.groups[i].Value(j);
    }
  }
  __device__ __forceinline__ void AddKey(float p, const float* v) {
    STOKER_UNROLL
    for (int d = 0; d < kDims; ++d) o[d] = __fmaf_rn(p, v[d], o[d]);
  }
  __device__ __forceinline__ void Walk(const Prepared& prepared, const float* values,
                                       int key_count) {
    const float correction = prepared.corrections[head];
    const float* weights = prepared.weights + head * kWeightStride;
    const float* v = values + dim;
    STOKER_UNROLL
    for (int d = 0; d < kDims; ++d) o[d] *= correction;
    if (key_count == kTileKeys) {
      STOKER_UNROLL_BY(4)
      for (int j = 0; j < kTileKeys; j += 4) {
        const float4 p = *reinterpret_cast<const float4*>(weights + j);
        AddKey(p.x, v + j * kSlice);
        AddKey(p.y, v + (j + 1) * kSlice);
        AddKey(p.z, v + (j + 2) * kSlice);
        AddKey(p.w, v + (j + 3) * kSlice);
      }
    } else {
      for (int j = 0; j < key_count; ++j) AddKey(weights[j], v + j * kSlice);
    }
  }
};

template <typename Element, int kDims>
__global__ void __launch_bounds__(kThreads, 2)
    WalkUnits(const __grid_constant__ AttendRowsArgs args,
              const __grid_constant__ SplitShape shape) {
  using ThisWalker = Walker<Element, kDims>;
  // Tiles asked for ahead of use: narrow blocks are few, and each must keep more on its way.
  constexpr int kAhead = kDims == 1 ? 4 : 1;
  STOKER_SHARED_ARRAY(float, values, 2 * kTileKeys * ThisWalker::kSlice);
  STOKER_SHARED_ARRAY(Prepared, prepared, 2);
  STOKER_SHARED_ARRAY(float, denominators, kUnitHeadsMax);

  const Unit unit(args, shape, blockIdx.y);
  const int visible = unit.place.position + 1;
  const int tiles = (visible + kTileKeys - 1) / kTileKeys;
  const bool walks = threadIdx.x < kWalkers;
  Preparer preparer = {unit, shape.position_span, visible, {}, {}, {}};
  ThisWalker walker = {ValueRows<Element>(args, unit.kv_head, shape.values_are_wide),
                       static_cast<int>(blockIdx.x) * ThisWalker::kSlice};
  typename ThisWalker::Ahead ahead[kAhead] = {};
  const auto load = [&](int tile) {
    return walker.Load(walker.rows.Page(unit.Page(args.kv, tile)),
                       min(visible - tile * kTileKeys, kTileKeys));
  };
  if (walks) {
    STOKER_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      if (k < tiles) ahead[k] = load(k);
    }
  } else {
    preparer.Load(0);
    preparer.Prepare(0, prepared[0]);
  }
  for (int first = 0; first < tiles; first += kAhead) {
    STOKER_UNROLL
    for (int k = 0; k < kAhead; ++k) {
      const int tile = first + k;
      if (tile >= tiles) break;
      float* tile_values = values + tile % 2 * kTileKeys * ThisWalker::kSlice;
      if (walks) ThisWalker::Store(ahead[k], tile_values);
      // What is written between two barriers is read only behind the second.
      __syncthreads();
      if (walks) {
        if (tile + kAhead < tiles) ahead[k] = load(tile + kAhead);
        if (walker.head < unit.heads) {
          walker.Walk(prepared[tile % 2], tile_values, min(visible - tile * kTileKeys, kTileKeys));
        }
      } else if (tile + 1 < tiles) {
        preparer.Prepare(tile + 1, prepared[(tile + 1) % 2]);
      }
    }
  }
  if (!walks && threadIdx.x % 32 == 0) {
    STOKER_UNROLL
    for (int i = 0; i < 2; ++i) denominators[preparer.Head(i)] = preparer.running[i].denominator;
  }
  __syncthreads();
  if (!walks || walker.head >= unit.heads) return;
  float* out = args.out + unit.row * args.out_row_stride +
               (unit.first_head + walker.head) * args.out_head_stride;
  STOKER_UNROLL
  for (int d = 0; d < kDims; ++d) {
    const int value = walker.first_value + walker.dim + d;
    if (value < args.value_dim) out[value] = walker.o[d] / denominators[walker.head];
  }
}

template <typename Element, int kDims>
int LaunchWalk(const AttendRowsArgs& args, const SplitShape& shape, unsigned units,
               void* native_stream) {
  constexpr int kSlice = Walker<Element, kDims>::kSlice;
  return LaunchKernel(
      WalkUnits<Element, kDims>,
      {.kernel = "attend_rows",
       .grid = {static_cast<unsigned>((args.value_dim + kSlice - 1) / kSlice), units},
       .block = {kThreads}},
      native_stream, args, shape);
}

SplitShape ShapeOf(const AttendRowsArgs& args) {
  const int group = args.heads / args.kv_heads;
  SplitShape shape;
  shape.head_groups = (group + kUnitHeadsMax - 1) / kUnitHeadsMax;
  shape.head_span = (group + shape.head_groups - 1) / shape.head_groups;
  shape.position_span = (args.positions_max + kTileKeys - 1) / kTileKeys * kTileKeys;
  return shape;
}

int64_t UnitsThatFit(const AttendRowsArgs& args, const SplitShape& shape) {
  if (args.scratch == nullptr) return 0;
  return AttendScratchFloats(args.heads, args.positions_max) /
         (int64_t{shape.head_span} * shape.position_span);
}

template <typename Element>
int Split(const AttendRowsArgs& args, void* native_stream) {
  SplitShape shape = ShapeOf(args);
  shape.keys_are_wide = IsWide<Element>(args.kv.keys, args.kv.key_stride, args.key_dim);
  shape.values_are_wide = IsWide<Element>(args.kv.values, args.kv.value_stride, args.value_dim);
  const int64_t units = args.rows * args.kv_heads * shape.head_groups;
  const int64_t units_of_pass = UnitsThatFit(args, shape);
  const int tiles = shape.position_span / kTileKeys;
  const auto score_blocks =
      static_cast<unsigned>(tiles < kScoreBlocksMax ? tiles : kScoreBlocksMax);
  for (; shape.first_unit < units; shape.first_unit += units_of_pass) {
    const int64_t left = units - shape.first_unit;
    const auto count = static_cast<unsigned>(left < units_of_pass ? left : units_of_pass);
    const int scored =
        LaunchKernel(ScoreUnits<Element>,
                     {.kernel = "attend_rows",
                      .grid = {score_blocks, count},
                      .block = {kScoreThreads},
                      .dynamic_shared_bytes = ScoreBytes<kEach>(shape.head_span, args.key_dim)},
                     native_stream, args, shape);
    if (scored != 0) return scored;
    // Wide blocks read and prepare less for each value; narrow ones are more, which is what counts
    // until there is one for each multiprocessor of a large GPU.
    constexpr int kWideSlice = Walker<Element, 4>::kSlice;
    constexpr int64_t kWideBlocksMin = 128;
    const int64_t wide_blocks = count * int64_t{(args.value_dim + kWideSlice - 1) / kWideSlice};
    const int walked = wide_blocks >= kWideBlocksMin
                           ? LaunchWalk<Element, 4>(args, shape, count, native_stream)
                           : LaunchWalk<Element, 1>(args, shape, count, native_stream);
    if (walked != 0) return walked;
  }
  return 0;
}

}  // namespace

bool CanSplit(const AttendRowsArgs& args) { return UnitsThatFit(args, ShapeOf(args)) > 0; }

int AttendBySplitting(const AttendRowsArgs& args, void* native_stream) {
  return args.kv.dtype == Dtype::kF16 ? Split<uint16_t>(args, native_stream)
                                      : Split<float>(args, native_stream);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
