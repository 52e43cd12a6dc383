// Attention of one key-value head. A block of up to 48 queries (row and head) walks the keys
// together, so that each tile of keys and values is widened once for all of them:
//
//   scores   eight keys, widened, against three queries at a time (dot_lanes.h)
//   softmax  the running maximum, the probabilities and their sum, query by query
//   values   a strip of 64 dimensions, widened, against several queries at a time
//
// The results accumulate in `out` itself. Every query's steps are those of the contract whichever
// block it is in, so rows can be cut anywhere.
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dot_lanes.h"
#include "kernels/cpu/lanes.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

static_assert(kStripKeys == kTileRows && kBlockQueries % kWidth == 0);

constexpr float kLowest = -__builtin_inff();
// Queries and registers of dimensions that meet a strip of values at once: 16 of AVX-512's 32
// registers, 8 of AVX2's 16.
constexpr int kValueQueries = kWidth == 16 ? 8 : 4;
constexpr int kValueRegisters = 2;
constexpr int64_t kValueDims = kValueRegisters * kWidth;

struct Block {
  int64_t count;
  const float* q[kBlockQueries];
  float* out[kBlockQueries];
  int64_t visible[kBlockQueries];  // query i sees keys [first_key, visible[i]); ascending
  alignas(64) float max[kBlockQueries];
  alignas(64) float correction[kBlockQueries];  // of the running tile
  float denominator[kBlockQueries];
};

// The keys [begin, end) of one tile, and the queries [query_begin, count) that see some of them.
struct Tile {
  int64_t start;  // multiple of kTileKeys
  int64_t begin;
  int64_t end;  // of the query that sees most
  int64_t query_begin;
};

STOKER_INLINE void StartBlock(const AttentionArgs& args, int64_t query_first, Block& block) {
  const int64_t queries = static_cast<int64_t>(args.rows) * args.heads;
  block.count = Smaller(kBlockQueries, queries - query_first);
  for (float& max : block.max) {
    max = kLowest;
  }
  for (int64_t i = 0; i < block.count; ++i) {
    const int64_t row = (query_first + i) / args.heads;
    const int64_t head = (query_first + i) % args.heads;
    block.q[i] = args.q + row * args.q_row_stride + head * args.q_head_stride;
    block.out[i] = args.out + row * args.out_row_stride + head * args.out_head_stride;
    block.visible[i] = args.visible + row;
    block.denominator[i] = 0.0f;
    for (int64_t d = 0; d < args.value_dim; d += kWidth) {
      StoreUpTo(block.out[i] + d, F32s::Broadcast(0.0f), args.value_dim - d);
    }
  }
}

// scores[i][j - tile.start] = dot(q_i, k_j) * scale. Eight keys at a time from a multiple of eight;
// places outside [begin, end) get the score of a neighbour, which nobody reads.
template <Dtype kDtype>
STOKER_INLINE void ScoreTile(const AttentionArgs& args, const Block& block, const Tile& tile) {
  float* widened = args.scratch + kKeysOffset;
  const DotTile keys = {widened, WidenedKeyStride(args.key_dim), args.key_dim};
  const std::byte* data = static_cast<const std::byte*>(args.keys);
  alignas(64) float lanes[kPassCount * kTileLanes];
  for (int64_t j = tile.begin / kTileRows * kTileRows; j < tile.end; j += kTileRows) {
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int64_t key = Smaller(Larger(j + r, tile.begin), tile.end - 1);
      Widen<kDtype>(data + key * args.key_stride * kElementBytes<kDtype>, args.key_dim,
                    widened + r * keys.row_stride);
    }
    for (int64_t i = tile.query_begin; i < block.count; i += kPassCount) {
      const int64_t count = Smaller(kPassCount, block.count - i);
      MultiplyAddTile(keys, block.q + i, count, false, lanes);
      for (int64_t c = 0; c < count; ++c) {
        float* scores = args.scratch + kProbabilitiesOffset + (i + c) * kTileKeys;
        float totals[kTileRows];
        FoldEight(reinterpret_cast<const float(*)[kDotLanes]>(lanes + c * kTileLanes), totals);
        for (int r = 0; r < kTileRows; ++r) {
          scores[j - tile.start + r] = totals[r] * args.scale;
        }
      }
    }
  }
}

// Marks the keys that query i does not see, and returns its largest score so far.
STOKER_INLINE float MaskScores(const Tile& tile, const Block& block, int64_t i, float* scores) {
  for (int64_t j = 0; j < tile.begin - tile.start; ++j) {
    scores[j] = kLowest;
  }
  for (int64_t j = block.visible[i] - tile.start; j < kTileKeys; ++j) {
    scores[j] = kLowest;
  }
  F32s largest = F32s::Broadcast(block.max[i]);
  for (int64_t j = 0; j < kTileKeys; j += kWidth) {
    largest = Max(Load(scores + j), largest);
  }
  return LargestLane(largest);
}

// Replaces scores by exp(score - max), and leaves their sum's lanes in `lanes`. The probabilities
// are at least +0, so adding each to a lane that starts at +0 keeps the first one as it is.
STOKER_INLINE void Exponentiate(float max, float* scores, float* lanes) {
  const F32s shift = F32s::Broadcast(max);
  for (int64_t l = 0; l < kDotLanes; l += kWidth) {
    const F32s first = Exp(Load(scores + l) - shift);
    const F32s second = Exp(Load(scores + l + kDotLanes) - shift);
    Store(scores + l, first);
    Store(scores + l + kDotLanes, second);
    Store(lanes + l, first + second);
  }
}

// Turns every query's scores of one tile into probabilities, and finds its correction. Stage by
// stage over all queries, because the steps of one are a chain of latencies.
STOKER_INLINE void SoftmaxTile(const Tile& tile, float* p, Block& block) {
  alignas(64) float max[kBlockQueries];
  for (int64_t i = 0; i < kBlockQueries; ++i) {
    const bool sees = i >= tile.query_begin && i < block.count;
    max[i] = sees ? MaskScores(tile, block, i, p + i * kTileKeys) : block.max[i];
  }
  for (int64_t i = 0; i < block.count; i += kWidth) {
    // The first tile's: exp(-inf) = 0. A query that sees nothing yet has no use for its own.
    Store(block.correction + i, Exp(Load(block.max + i) - Load(max + i)));
    Store(block.max + i, Load(max + i));
  }
  alignas(64) float lanes[kTileLanes] = {};
  for (int64_t first = tile.query_begin; first < block.count; first += kTileRows) {
    const int64_t count = Smaller(kTileRows, block.count - first);
    for (int64_t c = 0; c < count; ++c) {
      Exponentiate(max[first + c], p + (first + c) * kTileKeys, lanes + c * kDotLanes);
    }
    float sums[kTileRows];
    FoldEight(reinterpret_cast<const float(*)[kDotLanes]>(lanes), sums);
    for (int64_t c = 0; c < count; ++c) {
      float& denominator = block.denominator[first + c];
      denominator = denominator * block.correction[first + c] + sums[c];
    }
  }
}

// A strip of widened values: key j's dimensions [dim_first, dim_first + dims) at values +
// (j - tile_start) * kStripDims, zeros up to a multiple of kValueDims.
struct ValueStrip {
  const float* values;
  int64_t tile_start;
  int64_t dim_first;
  int64_t dims;
};

// out = out * correction, then fma(p_j, v_j, out) for j in [begin, end), of kQueries queries from i
// on. A correction of 1 changes nothing.
template <int kQueries>
STOKER_INLINE void AddValues(const ValueStrip& strip, const float* p, const Block& block, int64_t i,
                             int64_t begin, int64_t end, bool correct) {
  for (int64_t d = 0; d < strip.dims; d += kValueDims) {
    F32s sums[kQueries][kValueRegisters];
#pragma GCC unroll 8
    for (int c = 0; c < kQueries; ++c) {
      const F32s correction = F32s::Broadcast(correct ? block.correction[i + c] : 1.0f);
#pragma GCC unroll 8
      for (int s = 0; s < kValueRegisters; ++s) {
        const int64_t n = Larger(0, strip.dims - d - s * kWidth);
        sums[c][s] = LoadUpTo(block.out[i + c] + strip.dim_first + d + s * kWidth, n) * correction;
      }
    }
    for (int64_t j = begin - strip.tile_start; j < end - strip.tile_start; ++j) {
      F32s v[kValueRegisters];
#pragma GCC unroll 8
      for (int s = 0; s < kValueRegisters; ++s) {
        v[s] = Load(strip.values + j * kStripDims + d + s * kWidth);
      }
#pragma GCC unroll 8
      for (int c = 0; c < kQueries; ++c) {
        const F32s weight = F32s::Broadcast(p[(i + c) * kTileKeys + j]);
#pragma GCC unroll 8
        for (int s = 0; s < kValueRegisters; ++s) {
          sums[c][s] = Fma(weight, v[s], sums[c][s]);
        }
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kQueries; ++c) {
#pragma GCC unroll 8
      for (int s = 0; s < kValueRegisters; ++s) {
        const int64_t n = Larger(0, strip.dims - d - s * kWidth);
        StoreUpTo(block.out[i + c] + strip.dim_first + d + s * kWidth, sums[c][s], n);
      }
    }
  }
}

// kQueries queries from i on: the keys that all of them see together, those that only later rows
// see one query at a time.
template <int kQueries>
STOKER_INLINE void AddValuesOfGroup(const ValueStrip& strip, const Tile& tile, const float* p,
                                    const Block& block, int64_t i) {
  const int64_t common = Smaller(tile.end, block.visible[i]);
  AddValues<kQueries>(strip, p, block, i, tile.begin, common, true);
  for (int64_t c = 1; c < kQueries; ++c) {
    const int64_t end = Smaller(tile.end, block.visible[i + c]);
    if (end > common) {
      AddValues<1>(strip, p, block, i + c, common, end, false);
    }
  }
}

// Widens dimensions [dim_first, dim_first + dims) of the tile's values.
template <Dtype kDtype>
STOKER_INLINE void WidenValues(const AttentionArgs& args, const Tile& tile, int64_t dim_first,
                               int64_t dims, float* values) {
  const std::byte* data = static_cast<const std::byte*>(args.values);
  for (int64_t j = tile.begin; j < tile.end; ++j) {
    const std::byte* source = data + (j * args.value_stride + dim_first) * kElementBytes<kDtype>;
    float* target = values + (j - tile.start) * kStripDims;
    for (int64_t d = 0; d < dims; d += kValueDims) {
      for (int64_t e = d; e < d + kValueDims; e += kWidth) {
        Store(target + e,
              LoadUpTo<kDtype>(source + e * kElementBytes<kDtype>, Larger(0, dims - e)));
      }
    }
  }
}

template <Dtype kDtype>
STOKER_INLINE void AddTileValues(const AttentionArgs& args, const Block& block, const Tile& tile) {
  float* values = args.scratch + kValuesOffset;
  const float* p = args.scratch + kProbabilitiesOffset;
  for (int64_t d = 0; d < args.value_dim; d += kStripDims) {
    const int64_t dims = Smaller(kStripDims, args.value_dim - d);
    WidenValues<kDtype>(args, tile, d, dims, values);
    const ValueStrip strip = {values, tile.start, d, dims};
    int64_t i = tile.query_begin;
    for (; i + kValueQueries <= block.count; i += kValueQueries) {
      AddValuesOfGroup<kValueQueries>(strip, tile, p, block, i);
    }
    for (; i + 2 <= block.count; i += 2) {
      AddValuesOfGroup<2>(strip, tile, p, block, i);
    }
    for (; i < block.count; ++i) {
      AddValuesOfGroup<1>(strip, tile, p, block, i);
    }
  }
}

template <Dtype kDtype>
void AttendBlock(const AttentionArgs& args, Block& block) {
  const int64_t end = block.visible[block.count - 1];
  Tile tile = {};
  for (int64_t t = args.first_key / kTileKeys * kTileKeys; t < end; t += kTileKeys) {
    tile.start = t;
    tile.begin = Larger(t, args.first_key);
    tile.end = Smaller(t + kTileKeys, end);
    while (block.visible[tile.query_begin] <= tile.begin) {
      ++tile.query_begin;
    }
    ScoreTile<kDtype>(args, block, tile);
    SoftmaxTile(tile, args.scratch + kProbabilitiesOffset, block);
    AddTileValues<kDtype>(args, block, tile);
  }
  for (int64_t i = 0; i < block.count; ++i) {
    const F32s denominator = F32s::Broadcast(block.denominator[i]);
    for (int64_t d = 0; d < args.value_dim; d += kWidth) {
      float* out = block.out[i] + d;
      StoreUpTo(out, LoadUpTo(out, args.value_dim - d) / denominator, args.value_dim - d);
    }
  }
}

}  // namespace

void Attention(const AttentionArgs& args) {
  const int64_t queries = static_cast<int64_t>(args.rows) * args.heads;
  Block block;
  for (int64_t first = 0; first < queries; first += kBlockQueries) {
    StartBlock(args, first, block);
    if (args.kv_dtype == Dtype::kF16) {
      AttendBlock<Dtype::kF16>(args, block);
    } else {
      AttendBlock<Dtype::kF32>(args, block);
    }
  }
}

}  // namespace stoker::cpu::STOKER_ISA
