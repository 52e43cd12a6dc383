// Finds the operations of a device and says how much memory each touches.
#include "kernels/device_ops.h"

#include "base/check.h"
#include "kernels/cuda/tables.h"

namespace stoker {
namespace {

uint64_t Product(int64_t a, int64_t b, int64_t c = 1) {
  CHECK(a >= 0 && b >= 0 && c >= 0);
  return static_cast<uint64_t>(a) * static_cast<uint64_t>(b) * static_cast<uint64_t>(c);
}

uint64_t Floats(int64_t rows, int64_t cols, int64_t times = 1) {
  return Product(rows, cols, times) * sizeof(float);
}

// The quantized forms of rows that are wanted.
uint64_t QuantizedBytes(int64_t rows, int64_t cols, const std::byte* q8x32,
                        const std::byte* q8x256) {
  const int64_t forms = (q8x32 != nullptr ? 1 : 0) + (q8x256 != nullptr ? 1 : 0);
  return Product(rows, forms) * ActivationRowBytes(ActivationKind::kQ8x32, cols);
}

// Activation rows as a weight format wants them.
uint64_t ActivationBytes(Dtype weight, int64_t rows, int64_t cols) {
  return Product(rows, 1) * ActivationRowBytes(ActivationKindOf(weight), cols);
}

int64_t ElementBytes(const KvLayer& kv) { return InfoOf(kv.dtype).block_bytes; }

// The cosines and sines of one position for each row.
uint64_t RopeBytes(const RopeTable& rope, int64_t rows) { return Floats(rows, rope.pairs, 2); }

}  // namespace

uint64_t TouchedBytes(const NormRowsArgs& args) {
  int64_t times = 1;
  if (args.delta != nullptr) times += args.sources == nullptr ? 2 : 1;
  if (args.out != nullptr) ++times;
  if (args.kept != nullptr) ++times;
  return Floats(args.rows, args.cols, times) + Floats(1, args.cols) +
         QuantizedBytes(args.rows, args.cols, args.q8x32, args.q8x256);
}

uint64_t TouchedBytes(const QuantizeRowsArgs& args) {
  return Floats(args.rows, args.cols) +
         QuantizedBytes(args.rows, args.cols, args.q8x32, args.q8x256);
}

uint64_t TouchedBytes(const MatmulRowsArgs& args) {
  uint64_t bytes = 0;
  bool is_counted[3] = {};  // by kind of activations, which products share
  for (int p = 0; p < args.product_count; ++p) {
    const MatrixView& w = args.products[p].w;
    bytes += w.bytes() + Floats(args.rows, w.rows);
    bool& counted = is_counted[static_cast<size_t>(ActivationKindOf(w.dtype))];
    if (!counted) bytes += ActivationBytes(w.dtype, args.rows, args.cols);
    counted = true;
  }
  return bytes;
}

uint64_t TouchedBytes(const GateRowsArgs& args) {
  return Floats(args.rows, args.cols, 3) +
         QuantizedBytes(args.rows, args.cols, args.q8x32, args.q8x256);
}

uint64_t TouchedBytes(const FinishHeadsArgs& args) {
  const int64_t keys = int64_t{args.kv_heads} * args.key_dim;
  const int64_t values = int64_t{args.kv_heads} * args.value_dim;
  return Floats(args.rows, int64_t{args.heads} * args.key_dim, 2) +
         Floats(args.rows, keys + values) +
         Product(args.rows, keys + values, ElementBytes(args.kv)) + RopeBytes(args.rope, args.rows);
}

uint64_t TouchedBytes(const FinishLatentArgs& args) {
  const int64_t latent = args.kv_rank + 2 * int64_t{args.rope.pairs};
  return Floats(args.rows, latent) + Product(args.rows, latent, ElementBytes(args.kv)) +
         Floats(args.rows, args.q_rank, 2) + RopeBytes(args.rope, args.rows) +
         QuantizedBytes(args.rows, args.q_rank, args.q8x32, args.q8x256);
}

uint64_t TouchedBytes(const HeadProductArgs& args) {
  const int64_t vectors = args.rows * args.heads;
  const int64_t rotated = 2 * int64_t{args.rope.pairs};
  return Product(args.heads, args.row_count) * args.w.row_bytes() +
         Floats(vectors, args.w.cols + args.row_count + 2 * rotated) +
         RopeBytes(args.rope, args.rows);
}

uint64_t TouchedBytes(const AttendRowsArgs& args) {
  const bool is_shared = args.kv.keys == args.kv.values;
  const int64_t position = args.key_dim + (is_shared ? 0 : args.value_dim);
  return Product(args.keys_total, args.kv_heads * position, ElementBytes(args.kv)) +
         Floats(args.rows, int64_t{args.heads} * (args.key_dim + args.value_dim));
}

uint64_t TouchedBytes(const RouteRowsArgs& args) {
  return Floats(args.rows, args.expert_count + 2 * int64_t{args.top_k});
}

uint64_t TouchedBytes(const GroupPairsArgs& args) {
  const uint64_t addresses = 3 * sizeof(const std::byte*);  // of an expert's matrices
  return Product(args.pair_count, 1) * (2 * sizeof(int32_t) + addresses + sizeof(ExpertTask));
}

uint64_t TouchedBytes(const ExpertGroupArgs& args) {
  const uint64_t weights = args.gate.bytes() + args.up.bytes() + args.down.bytes();
  // The pair's row, its gated values (written, read) and their form, and what comes out.
  const int64_t pairs = args.pair_total;
  return Product(args.task_count, 1) * weights +
         ActivationBytes(args.gate.dtype, pairs, args.gate.cols) +
         Floats(pairs, args.down.cols, 2) +
         ActivationBytes(args.down.dtype, pairs, args.down.cols) + Floats(pairs, args.down.rows);
}

uint64_t TouchedBytes(const SumPartsArgs& args) {
  const int64_t times = args.top_k + (args.shared != nullptr ? 2 : 1);
  return Floats(args.rows, args.cols, times) + Floats(args.rows, args.top_k);
}

uint64_t TouchedBytes(const LogSumExpArgs& args) {
  return Floats(args.rows, args.cols) + Product(args.rows, 1) * sizeof(ExpSum);
}

uint64_t TouchedBytes(const EmbedRowsArgs& args) {
  return Product(args.rows, 1) * args.table.row_bytes() + Floats(args.rows, args.table.cols);
}

const DeviceOps* FindDeviceOps(std::string_view device_kind) {
  if (device_kind == "modelled") return &twin::kOps;
#ifdef STOKER_HAS_CUDA
  if (device_kind == "cuda") return &cuda::kOps;
#endif
  return nullptr;
}

}  // namespace stoker
