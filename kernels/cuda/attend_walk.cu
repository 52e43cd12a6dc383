// Attention of many rows: each block walks the tiles of its queries, which share what it reads.
//
// A block has up to 16 queries of one key-value head: neighbouring rows, and the heads of each.
// Rows of one sequence that follow each other are walked together, up to the last position of
// theirs; rows of the next sequence after them. Nothing is kept in memory between launches.
#include "kernels/cuda/attend_tile.cuh"

namespace stoker::STOKER_DEVICE_NAMESPACE {
namespace {

constexpr int kQueriesMax = 16;
// Of which a thread scores this many at a time. With two, a multiprocessor has registers for one
// block; with one, products would wait for shared memory more than they do.
constexpr int kEach = 2;
// Of values a block has this many, two for each thread; longer ones are shared by several blocks.
constexpr int kSliceValues = 2 * kScoreThreads;
// Floats between the keys of a tile's probabilities, which lie query by query: a multiple of 4 that
// spreads the keys over banks.
constexpr int kWeightStride = kQueriesMax + 4;

// How queries are given to blocks: block (x, y) has heads [head_span * (y % head_groups), ...) of
// key-value head y / head_groups in rows [row_span * x, ...).
struct WalkShape {
  int32_t row_span = 1;
  int32_t head_span = 1;
  int32_t head_groups = 1;
  bool keys_are_wide = false;
  bool values_are_paired = false;  // whether values 2i and 2i + 1 can be read as one
};

// The rows of a block that follow each other in one sequence.
struct Run {
  int32_t begin, end;
  int32_t sequence;
  int32_t visible_least;  // keys that all of the block's queries see
  int32_t visible_most;   // and any of the run's
};

// What a block has: its queries are the heads of each of its rows.
struct Part {
  int64_t first_row;
  int32_t row_count;
  int32_t first_head, head_count;
  int32_t kv_head;
  int32_t queries;
};

// What a block keeps in shared memory beside its queries and what it scores. Registers are short:
// all that is not used key by key is here.
struct WalkMemory {
  float weights[kTileKeys * kWeightStride];  // by key: scores, then probabilities
  float corrections[kQueriesMax];
  int32_t visible[kQueriesMax];  // keys that a query sees in the sequence at hand
  float maxima[kQueriesMax];     // RunningSoftmax of each query
  float denominators[kQueriesMax];
  Part part;
  Run run;
};
static_assert(alignof(WalkMemory) <= 16);

// Values 2i and 2i + 1 of a row: at `value`. rows.is_wide: they can be read as one.
template <typename Element>
__device__ __forceinline__ float2 LoadPair(const HeadRows<Element>& rows, const Element* row,
                                           int value) {
  float2 pair;
  if (!rows.is_wide) {
    pair.x = Widen(row[value]);
    pair.y = value + 1 < rows.dim ? Widen(row[value + 1]) : 0.0f;
  } else if constexpr (sizeof(Element) == 2) {
    const uint32_t both = *reinterpret_cast<const uint32_t*>(row + value);
    pair.x = WidenHalf(static_cast<uint16_t>(both));
    pair.y = WidenHalf(static_cast<uint16_t>(both >> 16));
  } else {
    pair = *reinterpret_cast<const float2*>(row + value);
  }
  return pair;
}

// What a thread sums: two values of a row, for kCount queries.
template <typename Element, int kCount>
struct Sums {
  int value;  // the first of the two
  int first_query;
  float o[kCount][2] = {};

  // o = o * c, then o = fma(p_j, v_j, o) over the keys j of a page that a query sees. With
  // kSeesAll every query sees every one of them.
  template <bool kSeesAll>
  __device__ __forceinline__ void Add(const WalkMemory& memory, const HeadRows<Element>& rows,
                                      const Element* page, int position) {
    STOKER_UNROLL
    for (int k = 0; k < kCount; ++k) {
      const float correction = memory.corrections[first_query + k];
      o[k][0] *= correction;
      o[k][1] *= correction;
    }
    const int key_count = kSeesAll ? kTileKeys : min(memory.run.visible_most - position, kTileKeys);
    STOKER_UNROLL_BY(kSeesAll ? 8 : 1)
    for (int j = 0; j < key_count; ++j) {
      const float2 v = LoadPair(rows, page + j * rows.stride, value);
      const float* p = memory.weights + j * kWeightStride + first_query;
      STOKER_UNROLL
      for (int k = 0; k < kCount; ++k) {
        if (!kSeesAll && position + j >= memory.visible[first_query + k]) continue;
        o[k][0] = __fmaf_rn(p[k], v.x, o[k][0]);
        o[k][1] = __fmaf_rn(p[k], v.y, o[k][1]);
      }
    }
  }
};

// Scores to probabilities, query by query: a warp has every eighth query. Queries that see nothing
// of the tile stay as they are.
__device__ __forceinline__ void StepQueries(WalkMemory& memory, int queries, int first_position) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  STOKER_UNROLL_BY(1)
  for (int query = warp; query < queries; query += kScoreThreads / 32) {
    const int key_count = min(memory.visible[query] - first_position, kTileKeys);
    float correction = 1.0f;
    if (key_count > 0) {
      float* low = memory.weights + lane * kWeightStride + query;
      float* high = low + 32 * kWeightStride;
      RunningSoftmax running = {memory.maxima[query], memory.denominators[query]};
      const TileStep step = NextTile(running, *low, *high, key_count);
      *low = step.low;
      *high = step.high;
      if (lane == 0) {
        memory.maxima[query] = running.maximum;
        memory.denominators[query] = running.denominator;
      }
      correction = step.correction;
    }
    if (lane == 0) memory.corrections[query] = correction;
  }
}

// The run that begins at a row of the block, all of whose threads call this between barriers.
__device__ __forceinline__ void StartRun(WalkMemory& memory, const RowPlace* all_places,
                                         int begin) {
  const int thread = static_cast<int>(threadIdx.x);
  const RowPlace* places = all_places + memory.part.first_row;
  const int row_count = memory.part.row_count;
  Run run = {begin, begin + 1, places[begin].sequence, places[begin].position + 1,
             places[begin].position + 1};
  for (; run.end < row_count && places[run.end].sequence == run.sequence; ++run.end) {
    const int32_t visible = places[run.end].position + 1;
    run.visible_least = min(run.visible_least, visible);
    run.visible_most = max(run.visible_most, visible);
  }
  if (run.end - run.begin < row_count) run.visible_least = 0;
  if (thread == 0) memory.run = run;
  if (thread < kQueriesMax) {
    const int row = thread / memory.part.head_count;
    memory.visible[thread] = row >= run.begin && row < run.end ? places[row].position + 1 : 0;
  }
}

__device__ __forceinline__ Part PartOf(const AttendRowsArgs& args, const WalkShape& shape) {
  const int group = args.heads / args.kv_heads;
  const int head_in_group = static_cast<int>(blockIdx.y) % shape.head_groups * shape.head_span;
  Part part;
  part.kv_head = static_cast<int>(blockIdx.y) / shape.head_groups;
  part.first_head = part.kv_head * group + head_in_group;
  part.head_count = min(shape.head_span, group - head_in_group);
  part.first_row = int64_t{blockIdx.x} * shape.row_span;
  part.row_count =
      static_cast<int>(min(static_cast<int64_t>(shape.row_span), args.rows - part.first_row));
  part.queries = part.row_count * part.head_count;
  return part;
}

template <typename Element, int kCount>
__global__ void __launch_bounds__(kScoreThreads, 1)
    WalkTiles(const __grid_constant__ AttendRowsArgs args,
              const __grid_constant__ WalkShape shape) {
  STOKER_DYNAMIC_SHARED(float, staged);
  STOKER_SHARED(WalkMemory, memory);
  const int thread = static_cast<int>(threadIdx.x);
  const int pass_keys = PassKeys<kEach>(shape.row_span * shape.head_span);
  float* q = staged + pass_keys * kStagedStride;
  {
    const Part part = PartOf(args, shape);
    if (thread == 0) memory.part = part;
    StageQueries<kEach>(q, part.queries, args.key_dim, [&](int t) {
      return args.q + (part.first_row + t / part.head_count) * args.q_row_stride +
             (part.first_head + t % part.head_count) * args.q_head_stride;
    });
  }
  // What no query claims is multiplied like the rest, to no end.
  for (int i = thread; i < kTileKeys * kWeightStride; i += kScoreThreads) memory.weights[i] = 0;
  if (thread < kQueriesMax) {
    memory.corrections[thread] = 0;
    memory.maxima[thread] = RunningSoftmax{}.maximum;
    memory.denominators[thread] = 0;
  }

  __syncthreads();

  const int lanes_of_row = kScoreThreads * kCount / kQueriesMax;
  Sums<Element, kCount> sums;
  sums.value = static_cast<int>(blockIdx.z) * kSliceValues + 2 * (thread % lanes_of_row);
  sums.first_query = thread / lanes_of_row * kCount;
  const bool sums_anything = sums.value < args.value_dim && sums.first_query < memory.part.queries;
  STOKER_UNROLL_BY(1)
  for (int row = 0; row < memory.part.row_count; row = memory.run.end) {
    __syncthreads();
    StartRun(memory, args.places, row);
    __syncthreads();
    STOKER_UNROLL_BY(1)
    for (int position = 0; position < memory.run.visible_most; position += kTileKeys) {
      const int32_t* table =
          args.kv.table + int64_t{memory.run.sequence} * args.kv.pages_per_sequence;
      const int32_t page = table[position / kTileKeys];
      {
        const auto keys = KeyRows<Element>(args, memory.part.kv_head, shape.keys_are_wide);
        ScoreTile<kEach>({q, staged, memory.part.queries, pass_keys}, keys, keys.Page(page),
                         min(memory.run.visible_most - position, kTileKeys), args.scale,
                         [&](int key, int query, float score) {
                           memory.weights[key * kWeightStride + query] = score;
                         });
      }
      __syncthreads();
      StepQueries(memory, memory.part.queries, position);
      __syncthreads();
      if (!sums_anything) continue;
      const auto values = ValueRows<Element>(args, memory.part.kv_head, shape.values_are_paired);
      if (position + kTileKeys <= memory.run.visible_least) {
        sums.template Add<true>(memory, values, values.Page(page), position);
      } else {
        sums.template Add<false>(memory, values, values.Page(page), position);
      }
    }
  }

  if (!sums_anything) return;
  const Part part = memory.part;
  STOKER_UNROLL
  for (int k = 0; k < kCount; ++k) {
    const int query = sums.first_query + k;
    if (query >= part.queries) break;
    float* out = args.out + (part.first_row + query / part.head_count) * args.out_row_stride +
                 (part.first_head + query % part.head_count) * args.out_head_stride + sums.value;
    const float denominator = memory.denominators[query];
    out[0] = sums.o[k][0] / denominator;
    if (sums.value + 1 < args.value_dim) out[1] = sums.o[k][1] / denominator;
  }
}

template <typename Element, int kCount>
int Launch(const AttendRowsArgs& args, const WalkShape& shape, void* native_stream) {
  const int queries = shape.row_span * shape.head_span;
  return LaunchKernel(
      WalkTiles<Element, kCount>,
      {.kernel = "attend_rows",
       .grid = {static_cast<unsigned>((args.rows + shape.row_span - 1) / shape.row_span),
                static_cast<unsigned>(args.kv_heads * shape.head_groups),
                static_cast<unsigned>((args.value_dim + kSliceValues - 1) / kSliceValues)},
       .block = {kScoreThreads},
       .dynamic_shared_bytes = ScoreBytes<kEach>(queries, args.key_dim)},
      native_stream, args, shape);
}

template <typename Element>
int Walk(const AttendRowsArgs& args, void* native_stream) {
  const int group = args.heads / args.kv_heads;
  // 16 queries of so many dimensions are what 48 KB hold; two such blocks share a multiprocessor.
  const int queries = args.key_dim <= 576 ? kQueriesMax : kQueriesMax / 2;
  WalkShape shape;
  shape.head_groups = (group + queries - 1) / queries;
  shape.head_span = (group + shape.head_groups - 1) / shape.head_groups;
  shape.row_span = queries / shape.head_span;
  if (args.rows < shape.row_span) shape.row_span = static_cast<int32_t>(args.rows);
  shape.keys_are_wide = IsWide<Element>(args.kv.keys, args.kv.key_stride, args.key_dim);
  shape.values_are_paired =
      reinterpret_cast<uintptr_t>(args.kv.values) % (2 * sizeof(Element)) == 0 &&
      args.kv.value_stride % 2 == 0 && args.value_dim % 2 == 0;
  // Threads of a row of values: 32 and a power of two.
  if (args.value_dim <= 64) return Launch<Element, 2>(args, shape, native_stream);
  if (args.value_dim <= 128) return Launch<Element, 4>(args, shape, native_stream);
  if (args.value_dim <= 256) return Launch<Element, 8>(args, shape, native_stream);
  return Launch<Element, 16>(args, shape, native_stream);
}

}  // namespace

int AttendByWalking(const AttendRowsArgs& args, void* native_stream) {
  return args.kv.dtype == Dtype::kF16 ? Walk<uint16_t>(args, native_stream)
                                      : Walk<float>(args, native_stream);
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
