// What the operations of a device are told: plain structs of sizes and device pointers, readable by
// every compiler that builds kernels.
//
// The arithmetic is that of kernels/ops.h, row by row, and the bits are those of kernels/reference:
// a row's result on a device is its result on the CPU. Rows of floats are `stride` floats apart;
// strides of rows that products write or read are multiples of 16 and their data starts at a
// 64-byte border. Weights start at an even address, rows back to back as in the file; kernels may
// read all of the aligned 4-byte words that hold some of them (which are memory of the same
// allocation). Pointers are device memory unless said otherwise. No operation allocates; scratch is
// given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/tensor_view.h"
#include "kernels/ops.h"

namespace stoker {

// Where a row of a step stands. The array of them is the only thing about a step's rows that
// kernels read, so a recorded sequence of launches serves any step of as many rows.
struct RowPlace {
  int32_t token = 0;
  int32_t sequence = 0;
  int32_t position = 0;
  int32_t unused = 0;
};

// Rows in the forms that weights want; a form that no weight wants is null. Quantized row r is at
// + r * ActivationRowBytes(kind, cols).
struct DeviceActivations {
  const float* x = nullptr;  // [rows, cols], for kF32
  int64_t stride = 0;
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;
};

// residual += delta, if there is one; kept = residual, if wanted; out = rms_norm(residual) *
// weight; and out's quantized forms. Output row i is of input row sources[i], or i where sources is
// null; with sources, residual is left as it is. cols is at most kNormColsMax.
inline constexpr int64_t kNormColsMax = 24 * 1024;
struct NormRowsArgs {
  float* residual = nullptr;     // [rows, cols]
  const float* delta = nullptr;  // [rows, cols], same stride
  const float* weight = nullptr;
  float* out = nullptr;   // [rows, cols], same stride; may be null
  float* kept = nullptr;  // [rows, cols], dense
  const int32_t* sources = nullptr;
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  float epsilon = 0;
};

// Quantized forms of rows of floats.
struct QuantizeRowsArgs {
  const float* x = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;
};

// out[j][r] = dot(w.row(r), x[j]) for all rows r of each of up to kProductsMax matrices of `cols`
// columns: few rows walk the weights once for all of them, many are cut into tiles.
struct MatmulRowsArgs {
  static constexpr int kProductsMax = 4;
  struct Product {
    MatrixView w;
    float* out = nullptr;  // [rows, w.rows]
    int64_t out_stride = 0;
  };
  Product products[kProductsMax];
  int product_count = 0;
  DeviceActivations x;
  int64_t rows = 0;
  int64_t cols = 0;
};

// y = silu(gate) * up, and its quantized forms. y may be gate.
struct GateRowsArgs {
  const float* gate = nullptr;
  const float* up = nullptr;
  float* y = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // of all three
  std::byte* q8x32 = nullptr;
  std::byte* q8x256 = nullptr;
};

// The rotation of positions: row p holds the pairs of position p.
struct RopeTable {
  const float* cosines = nullptr;  // [positions, pairs]
  const float* sines = nullptr;
  int32_t pairs = 0;
  RopePairing pairing = RopePairing::kNeighbours;
};

// Keys and values of one layer in pages of kPagePositions: position p of sequence s is row
// p % kPagePositions of page table[s * pages_per_sequence + p / kPagePositions]. Rows of a page
// are adjacent.
inline constexpr int kPagePositions = 64;  // a tile of attention
struct KvLayer {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;  // latent attention: the same as keys
  int64_t key_stride = 0;       // elements per position
  int64_t value_stride = 0;
  Dtype dtype = Dtype::kF16;  // kF16 or kF32
  const int32_t* table = nullptr;
  int32_t pages_per_sequence = 0;
};

// What follows the query, key and value products: bias, norm and rotation of each head, in place,
// and the row's keys and values into the cache.
struct FinishHeadsArgs {
  enum class Norm : uint8_t { kNone, kPerHead, kWhole };
  const RowPlace* places = nullptr;  // [rows]
  float* q = nullptr;                // [rows, heads * key_dim]
  float* k = nullptr;                // [rows, kv_heads * key_dim]
  float* v = nullptr;                // [rows, kv_heads * value_dim]
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  const float* q_bias = nullptr;  // may be null, all three
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
  const float* q_norm = nullptr;  // kPerHead: [key_dim]; kWhole: as wide as the row
  const float* k_norm = nullptr;
  Norm norm = Norm::kNone;
  float epsilon = 0;
  int32_t heads = 0, kv_heads = 0, key_dim = 0, value_dim = 0;
  int64_t rows = 0;
  RopeTable rope;
  KvLayer kv;
};

// What follows the first products of latent attention: the latent's norm, the rotation of what is
// behind it, both into the cache; and the compressed query's norm and quantized forms, if there is
// one.
struct FinishLatentArgs {
  const RowPlace* places = nullptr;
  float* latent = nullptr;  // [rows, kv_rank + 2 * rope.pairs]
  int64_t latent_stride = 0;
  const float* latent_norm = nullptr;  // [kv_rank]
  float* query_low = nullptr;          // [rows, q_rank]
  int64_t query_low_stride = 0;
  const float* query_low_norm = nullptr;  // [q_rank]
  std::byte* q8x32 = nullptr;             // of query_low
  std::byte* q8x256 = nullptr;
  int32_t kv_rank = 0;
  int32_t q_rank = 0;  // 0: no compressed query
  float epsilon = 0;
  int64_t rows = 0;
  RopeTable rope;
  KvLayer kv;
};

// For each row and head: out = w[head * head_rows + first_row ..., + row_count rows] * x, x being
// quantized first as the weights want it. With a rope table, the 2 * pairs values that lie behind
// x's w.cols are rotated and put behind out's row_count (the rotated part of an absorbed query).
struct HeadProductArgs {
  const RowPlace* places = nullptr;
  MatrixView w;
  int64_t head_rows = 0;
  int64_t first_row = 0;
  int64_t row_count = 0;
  const float* x = nullptr;  // head h of row r at r * x_row_stride + h * x_head_stride
  int64_t x_row_stride = 0, x_head_stride = 0;
  float* out = nullptr;
  int64_t out_row_stride = 0, out_head_stride = 0;
  int64_t rows = 0;
  int32_t heads = 0;
  RopeTable rope;  // pairs 0: none
};

// Attention of every row over positions [0, its own] of its sequence, in tiles as kernels/ops.h
// says. Head h uses key-value head h / (heads / kv_heads).
struct AttendRowsArgs {
  const RowPlace* places = nullptr;
  const float* q = nullptr;  // head h of row r at r * q_row_stride + h * q_head_stride
  int64_t q_row_stride = 0, q_head_stride = 0;
  float* out = nullptr;
  int64_t out_row_stride = 0, out_head_stride = 0;
  int64_t rows = 0;
  int32_t heads = 0, kv_heads = 0;
  int32_t key_dim = 0, value_dim = 0;
  KvLayer kv;
  float scale = 1;
  float* scratch = nullptr;   // AttendScratchFloats() floats; null: slower for few rows
  int32_t positions_max = 0;  // no row's position is as large
  int64_t keys_total = 0;     // sum over rows of position + 1, for what it will take
};
// Up to so many rows are attended with their scores in scratch, tiles side by side; more are walked
// tile by tile, without.
inline constexpr int kAttendSplitRowsMax = 16;
// Scratch for any number of rows of such positions: the scores of kAttendSplitRowsMax rows, and at
// most 32 MiB, beyond which rows and heads are done in passes.
int64_t AttendScratchFloats(int32_t heads, int32_t positions_max);

// The choice of experts of each row (RouterArgs).
struct RouteRowsArgs {
  const float* logits = nullptr;  // [rows, expert_count]
  int64_t stride = 0;
  const float* bias = nullptr;
  int64_t rows = 0;
  int32_t expert_count = 0;
  int32_t top_k = 0;
  int32_t group_count = 1;
  int32_t groups_used = 1;
  RouterArgs::GroupScore group_score = RouterArgs::GroupScore::kSumOfTopTwo;
  RouterArgs::Score score = RouterArgs::Score::kSoftmax;
  bool normalize = false;
  float weight_scale = 1;
  int32_t* experts = nullptr;  // [rows, top_k], dense
  float* weights = nullptr;    // [rows, top_k], dense
};

// One expert in device memory and the pairs (row * top_k + rank) that chose it: pairs
// [first_pair, first_pair + pair_count) of the list.
struct ExpertTask {
  const std::byte* gate = nullptr;
  const std::byte* up = nullptr;
  const std::byte* down = nullptr;
  int32_t first_pair = 0;
  int32_t pair_count = 0;
};

// Where the matrices of a layer's experts are, whose experts are all in device memory: part p of
// expert e is at parts[e * part_stride + p].
struct ExpertAddresses {
  const std::byte* const* parts = nullptr;
  int32_t part_stride = 0;
  int32_t gate_part = 0, up_part = 0, down_part = 0;
  int64_t up_offset_bytes = 0;  // of up within its part
};

// The pairs of a layer's rows by expert, for a layer whose experts are all in device memory: tasks
// in the order of their first pair, the pairs of each ascending. At most kGroupedPairsMax pairs.
inline constexpr int kGroupedPairsMax = 256;
struct GroupPairsArgs {
  const int32_t* experts = nullptr;  // [pairs] as chosen: row by row, by rank
  int32_t pair_count = 0;
  ExpertAddresses addresses;
  ExpertTask* tasks = nullptr;    // [pairs], of which task_count are written
  int32_t* pairs = nullptr;       // [pairs]
  int32_t* task_count = nullptr;  // [1]
};

// A group of experts in one operation: partial[pair] = down * (silu(gate * x) .* (up * x)), x being
// the pair's row. Whatever the last products need of gate and up is waited for inside. Its experts
// are listed by task; or they are what one row chose, which needs no list: the row's choice t is
// task t, whose one pair is t.
struct ExpertGroupArgs {
  const ExpertTask* tasks = nullptr;  // [task_count]
  const int32_t* pairs = nullptr;     // [pair_total]
  const int32_t* chosen = nullptr;    // [task_count], by rank; not null: instead of both
  ExpertAddresses addresses;          // of the chosen
  int32_t task_count = 0;
  // In device memory: how many tasks there are, at most task_count; null: task_count of them.
  const int32_t* tasks_there = nullptr;
  int32_t pair_total = 0;  // of all tasks
  int32_t top_k = 0;
  MatrixView gate, up, down;  // shapes and formats, without data
  DeviceActivations x;        // [rows, gate.cols]
  // Scratch for pair_total pairs: the gated values and their quantized forms, and counters, which
  // are zero before and after: ExpertCounters() of them.
  float* gated = nullptr;  // [pairs, gated_stride]
  int64_t gated_stride = 0;
  std::byte* gated_q8x32 = nullptr;
  std::byte* gated_q8x256 = nullptr;
  int32_t* counters = nullptr;
  float* partial = nullptr;  // [rows * top_k, partial_stride]
  int64_t partial_stride = 0;
  // [rows * top_k] the row of `partial` that a pair's part goes to; null: row `pair`.
  const int32_t* places = nullptr;
};
// For a group of experts of `width` gated values: two, and for each expert one, and one for every
// 256 of its values.
inline constexpr int ExpertCounters(int task_count, int64_t width) {
  return 2 + task_count * static_cast<int>(1 + (width + 255) / 256);
}

// delta = sum over ranks of weights * partial, in rank order from +0; then
// fma(sigmoid(shared_gate), shared, .), or + shared where there is no gate, if there is a shared
// expert.
struct SumPartsArgs {
  const float* partial = nullptr;      // [rows * top_k, cols]
  const int32_t* places = nullptr;     // [rows * top_k] the row of a pair's part; null: row `pair`
  const float* weights = nullptr;      // [rows, top_k], dense
  const float* shared = nullptr;       // [rows, cols]
  const float* shared_gate = nullptr;  // row r at r * shared_gate_stride
  int64_t shared_gate_stride = 0;
  float* delta = nullptr;  // [rows, cols]
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // of partial, shared and delta
  int32_t top_k = 0;
};

// out[r] = what Ops::log_sum_exp gives of row r.
struct LogSumExpArgs {
  const float* x = nullptr;  // [rows, cols]
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  ExpSum* out = nullptr;  // [rows]
};

// Rows of an embedding table: out[r] = the decoded row of places[r].token.
struct EmbedRowsArgs {
  const RowPlace* places = nullptr;
  MatrixView table;
  float* out = nullptr;  // [rows, table.cols]
  int64_t stride = 0;
  int64_t rows = 0;
};

}  // namespace stoker
