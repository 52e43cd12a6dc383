// The operations a backend supplies: one function pointer each. Plain pointers and sizes; no
// allocation, no files.
//
// The exactness contract. Each operation's result is defined by kernels/reference, which spells out
// the order of every floating-point step; each backend must give the same bits (docs/DECISIONS.md
// tells why the orders are these):
//
//   float dot      lane l of 32 sums the products of elements i with i % 32 == l, ascending, by fma
//   into +0; then
//                  the lanes are added in a halving tree: l and l+16, l and l+8, ... l and l+1.
//   float sum      the same with x instead of fma(w, x, .): lane += x.
//   block dot      a quantized row meets an activation row quantized to 8 bits. Inside a block all
//   is integer. Block b
//                  goes to strand b % 8, ascending:  s = fma(dw * dx, float(isum), s), and for
//                  formats with minima then s = fma(-(dmin * dx), float(msum), s).  Strands are
//                  added in a halving tree: s and s+4, s+2, s+1. isum and msum are exact 32-bit
//                  integers; float() rounds to nearest even.
//
// No operation reads the row beside the one it computes, so nothing about batching, chunking or
// threads can show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/dtype.h"
#include "base/tensor_view.h"

namespace stoker {

// The form in which a weight format wants its activations.
enum class ActivationKind : uint8_t {
  kF32,    // float[cols]
  kQ8x32,  // 8-bit blocks of 32, for Q8_0, Q4_0
  kQ8x256  // 8-bit blocks of 256 with sums of 16, for K-quants
};

// One group of 256 activation values of kind kQ8x32 (eight blocks) or kQ8x256 (one block). A row is
// whole groups; the values past `cols` are zero with zero scales. Quantization of a block, x its
// values:
//   a = max |x|;  a < 2^-120: d = 0, q = 0.  Else d = a / 127, q = rint(x * (127 / a)), ties to
//   even, which is at most 127 in magnitude. A block with an infinity or NaN gets d = NaN, q = 0,
//   so that what it touches is NaN too.
struct alignas(64) Q8x32Group {
  int8_t q[256];
  float d[8];
  int32_t sums[8];  // of q over each block
};
struct alignas(64) Q8x256Group {
  int8_t q[256];
  float d;
  int16_t sums[16];  // of q over each 16 values
  uint8_t unused[28];
};
static_assert(sizeof(Q8x32Group) == 320 && sizeof(Q8x256Group) == 320);

// Requires a format that kernels/formats lists.
ActivationKind ActivationKindOf(Dtype weight);
// Bytes of one activation row, a multiple of 64.
size_t ActivationRowBytes(ActivationKind kind, int64_t cols);

// Sixteen activation rows interleaved for kernels that keep rows of activations in lanes.
inline constexpr int64_t kPanelRows = 16;
// Products of fewer rows than this walk weight rows directly and need no panel: a panel costs the
// same for one row as for sixteen, and walking breaks even at 7 to 13 rows (by format, on Zen 4
// with AVX-512 and AVX2).
inline constexpr int64_t kPanelRowsMin = 9;
// Bytes of the panel of up to kPanelRows rows, a multiple of 64. 0 for kinds that use none (kF32).
size_t PanelBytes(ActivationKind kind, int64_t cols);

// out[j][r] = dot(w.row(r), x[j]) for r in [row_begin, row_end), j in [0, count).
struct MatmulArgs {
  MatrixView w;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t count = 0;  // activation rows
  const std::byte* const* x =
      nullptr;  // [count] rows of ActivationKindOf(w.dtype), 64-byte aligned
  // The panels of rows [0, 16), [16, 32), ..., back to back, made by `pack`; may be null, which is
  // slower for large counts and gives the same bits.
  const std::byte* panels = nullptr;
  float* const* out = nullptr;  // [count] rows of at least row_end values
};

enum class RopePairing : uint8_t {
  kNeighbours,  // (2i, 2i+1): NORM
  kHalves       // (i, i + n/2): NEOX
};

// Attention of one key-value head over a block of consecutive positions of one sequence.
//
// Query row r (of `rows`), query head h (of `heads`): s_j = dot(q, k_j) * scale (float dot, keys
// widened to F32) for keys j in [first_key, visible + r); keys are taken in tiles of 64 at absolute
// positions [64 t, 64 t + 64), ascending:
//   m' = max(m, max s_j);  c = exp(m - m');  p_j = exp(s_j - m'), 0 for keys not visible
//   l = l * c + floatsum(p);   o = o * c, then o = fma(p_j, v_j, o) for j ascending over the
//   visible keys of the tile
// and the result is o / l. Start: m = -inf, l = 0, o = 0 (the first tile's c is taken as 0).
struct AttentionArgs {
  const float* q = nullptr;  // [rows, heads, key_dim], heads of this kv head only
  int64_t q_row_stride = 0;  // in floats
  int64_t q_head_stride = 0;
  float* out = nullptr;  // [rows, heads, value_dim]
  int64_t out_row_stride = 0;
  int64_t out_head_stride = 0;
  int rows = 0;
  int heads = 0;
  int key_dim = 0;
  int value_dim = 0;
  const void* keys = nullptr;  // key j at keys + j * key_stride elements, key_dim values
  const void* values = nullptr;
  int64_t key_stride = 0;  // in elements
  int64_t value_stride = 0;
  Dtype kv_dtype = Dtype::kF16;  // kF16 or kF32
  int64_t first_key = 0;
  int64_t visible = 0;  // row 0 sees keys [first_key, visible)
  float scale = 1;
  float* scratch = nullptr;  // AttentionScratchFloats() floats, 64-byte aligned
};
// Scratch of one call, of at most `rows` query rows.
int64_t AttentionScratchFloats(int rows, int heads, int key_dim, int value_dim);

// How router logits become a choice (docs: model-families of each architecture).
struct RouterArgs {
  enum class Score : uint8_t { kSoftmax, kSigmoid, kSoftmaxOfSelected };
  enum class GroupScore : uint8_t { kMax, kSumOfTopTwo };
  const float* logits = nullptr;  // [expert_count]
  const float* bias = nullptr;  // [expert_count] added to the score for selection only; may be null
  int expert_count = 0;         // at most kExpertsMax
  int top_k = 0;
  int group_count = 1;  // 1: no grouping
  int groups_used = 1;
  GroupScore group_score = GroupScore::kSumOfTopTwo;
  Score score = Score::kSoftmax;
  bool normalize = false;  // weights divided by max(their sum, 2^-14)
  float weight_scale = 1;
  int32_t* experts = nullptr;  // [top_k] out, best first; ties to the lower index
  float* weights = nullptr;    // [top_k] out
};
inline constexpr int kExpertsMax = 1024;

// What the softmax of a row divides by: the sum of exp(x_i - max). The logarithm of the sum of
// exp(x_i) is max + log(sum); taking it is left to whoever knows how exact it has to be.
struct ExpSum {
  float max = 0;
  float sum = 0;
};
// Sums over a row are sums of the sums of pieces of so many values: a vocabulary in 32 lanes alone
// would add thousands of values in each, and keep one warp busy.
inline constexpr int64_t kExpSumPiece = 1024;

struct Ops {
  std::string_view name;  // "reference", "scalar", "avx2", "avx512"

  // x [cols] to one activation row of `kind` (kF32: a copy).
  void (*quantize)(ActivationKind kind, const float* x, int64_t cols, std::byte* row);
  // Interleaves `count` (1 to 16) activation rows into one panel.
  void (*pack)(ActivationKind kind, const std::byte* const* rows, int64_t count, int64_t cols,
               std::byte* panel);
  void (*matmul)(const MatmulArgs& args);

  // y = (x * (1 / sqrt(dot(x, x) / n + epsilon))) * weight; a null weight is left out. y may be x.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  // Rotates 2 * pairs values in place: (a, b) -> (fma(a, c, -(b * s)), fma(a, s, b * c)).
  void (*rope)(float* x, const float* cos, const float* sin, int64_t pairs, RopePairing pairing);
  // y = (gate / (1 + exp(-gate))) * up. y may be gate or up.
  void (*silu_multiply)(const float* gate, const float* up, int64_t n, float* y);
  // y = y + x
  void (*add)(const float* x, int64_t n, float* y);
  // y = fma(scale, x, y)
  void (*multiply_add)(float scale, const float* x, int64_t n, float* y);
  void (*attention)(const AttentionArgs& args);
  void (*route)(const RouterArgs& args);
  // max = the greatest of x, a NaN passed over and -0 taken as +0; sum = the float sum over the
  // pieces [1024 p, 1024 p + 1024) of the float sum of exp(x_i - max) in each. A NaN or an infinity
  // above makes sum a NaN. x of -inf adds 0; where max is -inf (as of no values), 0 is subtracted.
  ExpSum (*log_sum_exp)(const float* x, int64_t n);
  // 1 / (1 + exp(-x))
  float (*sigmoid)(float x);

  // Storage conversions of n values; narrowing rounds to nearest even.
  void (*to_f16)(const float* x, int64_t n, uint16_t* y);
  // Decodes one row of any listed format.
  void (*decode)(Dtype dtype, const std::byte* row, int64_t cols, float* y);
};

}  // namespace stoker
