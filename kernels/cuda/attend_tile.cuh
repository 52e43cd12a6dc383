// What the kernels of attention share: reading a page, scoring its keys, and the step of the
// running maximum, in the order that kernels/ops.h lays down.
//
// A tile is a page. A score is a float dot, whose 32 lanes are 32 registers of one thread: a warp
// that held them as its lanes would spend more on the tree than on the products. A tile's sum of
// probabilities is a float sum over 64 values, which a warp adds as lanes.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/device_args.h"
#include "kernels/elementary.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

inline constexpr int kTileKeys = kPagePositions;
inline constexpr int kDotLanes = 32;
inline constexpr int kScoreThreads = 256;
// Floats between staged rows: eight rows read 16 bytes each from different banks.
inline constexpr int kStagedStride = kDotLanes + 4;
// Keys are at most this long: what fits in shared memory with eight queries.
inline constexpr int kKeyDimMax = 1024;

// Floats between queries in shared memory: two queries are 8 banks apart modulo 32.
STOKER_INLINE int QueryStride(int key_dim) {
  return (key_dim + kDotLanes - 1) / kDotLanes * kDotLanes + 4;
}
// How many keys are scored at a time by threads that have kEach queries each, of at most 8 kEach:
// with few queries, all of the tile.
template <int kEach>
STOKER_INLINE int PassKeys(int queries) {
  return queries <= 4 * kEach ? kTileKeys : kTileKeys / 2;
}
// Queries in shared memory: whole threads' worth.
template <int kEach>
STOKER_INLINE int StagedQueries(int queries) {
  return (queries + kEach - 1) / kEach * kEach;
}
// Bytes of shared memory for ScoreTile: the staged parts of keys, then the queries.
template <int kEach>
STOKER_INLINE size_t ScoreBytes(int queries, int key_dim) {
  const int floats = PassKeys<kEach>(queries) * kStagedStride +
                     StagedQueries<kEach>(queries) * QueryStride(key_dim);
  return sizeof(float) * static_cast<size_t>(floats);
}

// The keys, or the values, of one key-value head: F16 as uint16_t, or float.
template <typename Element>
struct HeadRows {
  const Element* data;  // of this head in row 0 of page 0
  int64_t stride;       // elements between rows
  int dim;
  bool is_wide;  // whether each group of eight values of a row is whole and at a 16-byte border

  __device__ __forceinline__ const Element* Page(int32_t page) const {
    return data + int64_t{page} * kTileKeys * stride;
  }
};

template <typename Element>
STOKER_INLINE bool IsWide(const std::byte* data, int64_t stride, int dim) {
  constexpr int64_t kValues = 16 / sizeof(Element);
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % kValues == 0 && dim % 8 == 0;
}
template <typename Element>
__device__ __forceinline__ HeadRows<Element> KeyRows(const AttendRowsArgs& args, int kv_head,
                                                     bool is_wide) {
  return {reinterpret_cast<const Element*>(args.kv.keys) + int64_t{kv_head} * args.key_dim,
          args.kv.key_stride, args.key_dim, is_wide};
}
template <typename Element>
__device__ __forceinline__ HeadRows<Element> ValueRows(const AttendRowsArgs& args, int kv_head,
                                                       bool is_wide) {
  return {reinterpret_cast<const Element*>(args.kv.values) + int64_t{kv_head} * args.value_dim,
          args.kv.value_stride, args.value_dim, is_wide};
}

// Eight values as they lie in memory, so that a load can be under way while others are computed
// with.
template <typename Element>
struct Eight {
  static constexpr int kWords = 2 * static_cast<int>(sizeof(Element));
  uint32_t words[kWords];

  __device__ __forceinline__ float Value(int i) const {
    if constexpr (sizeof(Element) == 2) {
      return WidenHalf(static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))));
    } else {
      return FloatOfBits(words[i]);
    }
  }
};

// Values [first, first + 8) of a row; what lies behind the row's end is 0.
template <typename Element>
__device__ __forceinline__ Eight<Element> LoadEight(const HeadRows<Element>& rows,
                                                    const Element* row, int first) {
  Eight<Element> eight = {};
  if (rows.is_wide) {
    if (first >= rows.dim) return eight;
    const auto* source = reinterpret_cast<const uint4*>(row + first);
    STOKER_UNROLL
    for (int i = 0; i < Eight<Element>::kWords; i += 4) {
      const uint4 four = source[i / 4];
      eight.words[i] = four.x;
      eight.words[i + 1] = four.y;
      eight.words[i + 2] = four.z;
      eight.words[i + 3] = four.w;
    }
    return eight;
  }
  STOKER_UNROLL
  for (int i = 0; i < 8; ++i) {
    if (first + i >= rows.dim) break;
    if constexpr (sizeof(Element) == 2) {
      eight.words[i / 2] |= static_cast<uint32_t>(row[first + i]) << (16 * (i % 2));
    } else {
      eight.words[i] = BitsOfFloat(row[first + i]);
    }
  }
  return eight;
}

template <typename Element>
__device__ __forceinline__ float Widen(Element x) {
  if constexpr (sizeof(Element) == 2) {
    return WidenHalf(x);
  } else {
    return x;
  }
}

// The halving tree over the lanes of a float dot. (A loop over the halves would leave the lanes
// indexed by a variable, hence in memory.)
template <int kHalf = kDotLanes / 2>
__device__ __forceinline__ float LanesTotal(float (&lanes)[kDotLanes]) {
  STOKER_UNROLL
  for (int l = 0; l < kHalf; ++l) lanes[l] += lanes[l + kHalf];
  if constexpr (kHalf > 1) return LanesTotal<kHalf / 2>(lanes);
  return lanes[0];
}

// One chunk of a key and of some queries, which are `stride` floats apart, into the lanes of their
// dots.
//
// Zeros stand behind the end of a row that is not whole chunks. They can turn a lane of -0 (a
// product that underflowed) into +0, which no result shows: the sign of a zero score is lost in
// exp(s - m), whichever of the two is the larger.
template <int kEach>
__device__ __forceinline__ void MultiplyChunk(const float* q, int stride, const float* k,
                                              float (&sums)[kEach][kDotLanes]) {
  STOKER_UNROLL
  for (int l = 0; l < kDotLanes; l += 4) {
    const float4 key = *reinterpret_cast<const float4*>(k + l);
    STOKER_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const float4 query = *reinterpret_cast<const float4*>(q + i * stride + l);
      sums[i][l] = __fmaf_rn(query.x, key.x, sums[i][l]);
      sums[i][l + 1] = __fmaf_rn(query.y, key.y, sums[i][l + 1]);
      sums[i][l + 2] = __fmaf_rn(query.z, key.z, sums[i][l + 2]);
      sums[i][l + 3] = __fmaf_rn(query.w, key.w, sums[i][l + 3]);
    }
  }
}

// Where ScoreTile finds the block's queries, and room for parts of the keys.
struct ScoreMemory {
  const float* q;  // as StageQueries leaves them
  float* staged;   // [pass_keys, kStagedStride]
  int queries;
  int pass_keys;  // PassKeys of so many queries or more
};

// Queries into shared memory, zero behind their ends; `query(t)` points at query t. A barrier must
// follow.
template <int kEach, typename Query>
__device__ __forceinline__ void StageQueries(float* q, int queries, int key_dim, Query query) {
  const int stride = QueryStride(key_dim);
  for (int t = 0; t < StagedQueries<kEach>(queries); ++t) {
    const float* source = query(min(t, queries - 1));
    for (int i = static_cast<int>(threadIdx.x); i < stride; i += kScoreThreads) {
      q[t * stride + i] = i < key_dim ? source[i] : 0.0f;
    }
  }
}

// Scores the first `key_count` keys of a page: keep(key, query, q . k * scale). All kScoreThreads
// threads call it; it starts with a barrier, and ends without one. A thread has one key and kEach
// queries at a time; the 8 keys and 4 kEach queries of a warp share what they read.
template <int kEach, typename Element, typename Keep>
__device__ __forceinline__ void ScoreTile(const ScoreMemory& memory, const HeadRows<Element>& keys,
                                          const Element* page, int key_count, float scale,
                                          Keep keep) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int lane = thread % 32;
  const int key_warps = memory.pass_keys / 8;  // of those that share queries
  const int key = 8 * (warp % key_warps) + lane % 8;
  const int query = kEach * (4 * (warp / key_warps) + lane / 8);
  const int stride = QueryStride(keys.dim);
  const float* q = memory.q + query * stride;
  // What this thread brings in: eight values of a row.
  const int load_key = thread / 4;
  const int load_dim = thread % 4 * 8;
  STOKER_UNROLL_BY(1)
  for (int first = 0; first < key_count; first += memory.pass_keys) {
    const Element* load_row = page + (first + load_key) * keys.stride;
    const bool loads = load_key < memory.pass_keys && first + load_key < key_count;
    const bool computes = first + key < key_count && query < memory.queries;
    float sums[kEach][kDotLanes] = {};
    Eight<Element> next = {};
    if (loads) next = LoadEight(keys, load_row, load_dim);
    STOKER_UNROLL_BY(1)
    for (int dim = 0; dim < keys.dim; dim += kDotLanes) {
      __syncthreads();
      if (loads) {
        float* staged = memory.staged + load_key * kStagedStride + load_dim;
        STOKER_UNROLL
        for (int i = 0; i < 8; ++i) staged[i] = next.Value(i);
      }
      __syncthreads();
      if (loads && dim + kDotLanes < keys.dim) {
        next = LoadEight(keys, load_row, dim + kDotLanes + load_dim);
      }
      if (!computes) continue;
      MultiplyChunk(q + dim, stride, memory.staged + key * kStagedStride, sums);
    }
    if (!computes) continue;
    STOKER_UNROLL
    for (int i = 0; i < kEach; ++i) {
      if (query + i < memory.queries) keep(first + key, query + i, LanesTotal(sums[i]) * scale);
    }
  }
}

// The running maximum and denominator of one query, the same in all lanes of the warp that keeps
// them.
struct RunningSoftmax {
  float maximum = -__builtin_inff();
  float denominator = 0;
};

// One tile of one query: lane l brings the scores of keys l and l + 32, and takes their
// probabilities in their place.
struct TileStep {
  float low, high;
  float correction;  // of what was summed before
};
__device__ __forceinline__ TileStep NextTile(RunningSoftmax& running, float low, float high,
                                             int key_count) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool has_low = lane < key_count;
  const bool has_high = lane + 32 < key_count;
  float maximum = running.maximum;
  if (has_low) maximum = fmaxf(maximum, low);
  if (has_high) maximum = fmaxf(maximum, high);
  STOKER_UNROLL
  for (int half = 16; half > 0; half /= 2) {
    maximum = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, half));
  }
  TileStep step;
  step.correction =
      running.maximum == -__builtin_inff() ? 0.0f : Exp(F32x1{running.maximum - maximum}).value;
  step.low = has_low ? Exp(F32x1{low - maximum}).value : 0.0f;
  step.high = has_high ? Exp(F32x1{high - maximum}).value : 0.0f;
  float sum = step.low + step.high;
  STOKER_UNROLL
  for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(kAllLanes, sum, half);
  running.maximum = maximum;
  running.denominator = running.denominator * step.correction + sum;
  return step;
}

// The two ways in which rows are attended: attend_rows.cu says when which.
int AttendByWalking(const AttendRowsArgs& args, void* native_stream);
int AttendBySplitting(const AttendRowsArgs& args, void* native_stream);
// Whether scratch holds the scores of so much as one group of heads.
bool CanSplit(const AttendRowsArgs& args);

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
