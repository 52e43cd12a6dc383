// Each operation as kernels/device_args.h says it, a row at a time.
#include "tests/model/plain_device_ops.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/backends.h"

namespace stoker {
namespace {

const Ops& HostOps() {
  static const Ops& ops = **SelectOps("auto");
  return ops;
}

// Memory that is kept from call to call; one for each use within an operation. Taken with room for
// the steps of a test, so that it does not grow in the one that counts allocations.
template <typename T>
T* Scratch(int use, int64_t count) {
  thread_local std::vector<T> memory[8];
  std::vector<T>& taken = memory[use];
  constexpr int64_t kCountMin = (int64_t{1} << 18) / static_cast<int64_t>(sizeof(T));
  if (static_cast<int64_t>(taken.size()) < count + 16) {
    taken.resize(static_cast<size_t>(std::max(count, kCountMin)) + 16);
  }
  const auto at = reinterpret_cast<uintptr_t>(taken.data());
  return reinterpret_cast<T*>((at + 63) / 64 * 64);
}

std::byte* RowOf(std::byte* rows, ActivationKind kind, int64_t row, int64_t cols) {
  return rows + row * static_cast<int64_t>(ActivationRowBytes(kind, cols));
}

void QuantizeRow(const float* x, int64_t row, int64_t cols, std::byte* q8x32, std::byte* q8x256) {
  for (const auto& [kind, rows] :
       {std::pair(ActivationKind::kQ8x32, q8x32), std::pair(ActivationKind::kQ8x256, q8x256)}) {
    if (rows != nullptr) HostOps().quantize(kind, x, cols, RowOf(rows, kind, row, cols));
  }
}

int NormRows(const NormRowsArgs& args, void*) {
  float* sum = Scratch<float>(0, args.cols);
  for (int64_t i = 0; i < args.rows; ++i) {
    const int64_t from = args.sources == nullptr ? i : args.sources[i];
    float* residual = args.residual + from * args.stride;
    std::copy_n(residual, args.cols, sum);
    if (args.delta != nullptr) HostOps().add(args.delta + from * args.stride, args.cols, sum);
    if (args.sources == nullptr) std::copy_n(sum, args.cols, residual);
    if (args.kept != nullptr) std::copy_n(sum, args.cols, args.kept + i * args.cols);
    float* out = args.out + i * args.stride;
    HostOps().rms_norm(sum, args.weight, args.cols, args.epsilon, out);
    QuantizeRow(out, i, args.cols, args.q8x32, args.q8x256);
  }
  return 0;
}

int QuantizeRows(const QuantizeRowsArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    QuantizeRow(args.x + i * args.stride, i, args.cols, args.q8x32, args.q8x256);
  }
  return 0;
}

// out = w * x, x being a row in the form that w wants.
void MultiplyRow(const MatrixView& w, const std::byte* x, float* out) {
  HostOps().matmul({.w = w, .row_end = w.rows, .count = 1, .x = &x, .out = &out});
}

const std::byte* FormFor(const MatrixView& w, const DeviceActivations& x, int64_t row) {
  const ActivationKind kind = ActivationKindOf(w.dtype);
  if (kind == ActivationKind::kF32) return reinterpret_cast<const std::byte*>(x.x + row * x.stride);
  const std::byte* rows = kind == ActivationKind::kQ8x32 ? x.q8x32 : x.q8x256;
  return rows + row * static_cast<int64_t>(ActivationRowBytes(kind, w.cols));
}

int MatmulRows(const MatmulRowsArgs& args, void*) {
  for (int p = 0; p < args.product_count; ++p) {
    const MatmulRowsArgs::Product& product = args.products[p];
    for (int64_t i = 0; i < args.rows; ++i) {
      MultiplyRow(product.w, FormFor(product.w, args.x, i), product.out + i * product.out_stride);
    }
  }
  return 0;
}

int GateRows(const GateRowsArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    float* y = args.y + i * args.stride;
    HostOps().silu_multiply(args.gate + i * args.stride, args.up + i * args.stride, args.cols, y);
    QuantizeRow(y, i, args.cols, args.q8x32, args.q8x256);
  }
  return 0;
}

void Rotate(const RopeTable& rope, int32_t position, float* x) {
  HostOps().rope(x, rope.cosines + int64_t{position} * rope.pairs,
                 rope.sines + int64_t{position} * rope.pairs, rope.pairs, rope.pairing);
}

int64_t ElementBytes(const KvLayer& kv) { return kv.dtype == Dtype::kF32 ? 4 : 2; }

// Where a position's row lies in keys or values.
std::byte* CachedRow(const KvLayer& kv, std::byte* base, int64_t stride, const RowPlace& place,
                     int32_t position) {
  const int64_t page = kv.table[place.sequence * kv.pages_per_sequence + position / kPagePositions];
  return base + (page * kPagePositions + position % kPagePositions) * stride * ElementBytes(kv);
}

void Store(const KvLayer& kv, const float* x, int64_t n, std::byte* to) {
  if (kv.dtype == Dtype::kF32) {
    std::memcpy(to, x, static_cast<size_t>(n) * sizeof(float));
  } else {
    HostOps().to_f16(x, n, reinterpret_cast<uint16_t*>(to));
  }
}

void FinishHead(const FinishHeadsArgs& args, int32_t position, int heads, const float* bias,
                const float* norm, float* x) {
  const int64_t width = int64_t{heads} * args.key_dim;
  if (bias != nullptr) HostOps().add(bias, width, x);
  if (args.norm == FinishHeadsArgs::Norm::kWhole) {
    HostOps().rms_norm(x, norm, width, args.epsilon, x);
  }
  for (int head = 0; head < heads; ++head) {
    float* at = x + int64_t{head} * args.key_dim;
    if (args.norm == FinishHeadsArgs::Norm::kPerHead) {
      HostOps().rms_norm(at, norm, args.key_dim, args.epsilon, at);
    }
    Rotate(args.rope, position, at);
  }
}

int FinishHeads(const FinishHeadsArgs& args, void*) {
  const int64_t key_width = int64_t{args.kv_heads} * args.key_dim;
  const int64_t value_width = int64_t{args.kv_heads} * args.value_dim;
  for (int64_t i = 0; i < args.rows; ++i) {
    const RowPlace& place = args.places[i];
    float* k = args.k + i * args.k_stride;
    float* v = args.v + i * args.v_stride;
    FinishHead(args, place.position, args.heads, args.q_bias, args.q_norm,
               args.q + i * args.q_stride);
    FinishHead(args, place.position, args.kv_heads, args.k_bias, args.k_norm, k);
    if (args.v_bias != nullptr) HostOps().add(args.v_bias, value_width, v);
    const KvLayer& kv = args.kv;
    Store(kv, k, key_width, CachedRow(kv, kv.keys, kv.key_stride, place, place.position));
    Store(kv, v, value_width, CachedRow(kv, kv.values, kv.value_stride, place, place.position));
  }
  return 0;
}

int FinishLatent(const FinishLatentArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    const RowPlace& place = args.places[i];
    float* latent = args.latent + i * args.latent_stride;
    HostOps().rms_norm(latent, args.latent_norm, args.kv_rank, args.epsilon, latent);
    Rotate(args.rope, place.position, latent + args.kv_rank);
    Store(args.kv, latent, args.kv_rank + 2 * args.rope.pairs,
          CachedRow(args.kv, args.kv.keys, args.kv.key_stride, place, place.position));
    if (args.q_rank == 0) continue;
    float* low = args.query_low + i * args.query_low_stride;
    HostOps().rms_norm(low, args.query_low_norm, args.q_rank, args.epsilon, low);
    QuantizeRow(low, i, args.q_rank, args.q8x32, args.q8x256);
  }
  return 0;
}

int HeadProduct(const HeadProductArgs& args, void*) {
  const ActivationKind kind = ActivationKindOf(args.w.dtype);
  std::byte* x =
      Scratch<std::byte>(0, static_cast<int64_t>(ActivationRowBytes(kind, args.w.cols)) + 64);
  for (int64_t i = 0; i < args.rows * args.heads; ++i) {
    const int64_t row = i / args.heads, head = i % args.heads;
    const float* from = args.x + row * args.x_row_stride + head * args.x_head_stride;
    float* out = args.out + row * args.out_row_stride + head * args.out_head_stride;
    HostOps().quantize(kind, from, args.w.cols, x);
    MultiplyRow({.data = args.w.row(head * args.head_rows + args.first_row),
                 .dtype = args.w.dtype,
                 .rows = args.row_count,
                 .cols = args.w.cols},
                x, out);
    if (args.rope.pairs == 0) continue;
    std::copy_n(from + args.w.cols, 2 * args.rope.pairs, out + args.row_count);
    Rotate(args.rope, args.places[row].position, out + args.row_count);
  }
  return 0;
}

// The cached rows of a sequence, which lie in pages, one after another.
std::byte* Gather(const AttendRowsArgs& args, const RowPlace& place, bool is_keys) {
  const KvLayer& kv = args.kv;
  const int64_t stride = is_keys ? kv.key_stride : kv.value_stride;
  const int64_t row_bytes = stride * ElementBytes(kv);
  std::byte* rows = Scratch<std::byte>(is_keys ? 1 : 2, (place.position + 1) * row_bytes + 64);
  for (int32_t p = 0; p <= place.position; ++p) {
    std::memcpy(rows + p * row_bytes,
                CachedRow(kv, is_keys ? kv.keys : kv.values, stride, place, p),
                static_cast<size_t>(row_bytes));
  }
  return rows;
}

int AttendRows(const AttendRowsArgs& args, void*) {
  const int heads_per_kv = args.heads / args.kv_heads;
  float* scratch =
      Scratch<float>(0, AttentionScratchFloats(1, heads_per_kv, args.key_dim, args.value_dim) + 16);
  const int64_t element_bytes = ElementBytes(args.kv);
  for (int64_t row = 0; row < args.rows; ++row) {
    const RowPlace& place = args.places[row];
    const std::byte* keys = Gather(args, place, true);
    const std::byte* values = Gather(args, place, false);
    for (int kv_head = 0; kv_head < args.kv_heads; ++kv_head) {
      const int64_t head = int64_t{kv_head} * heads_per_kv;
      HostOps().attention(
          {.q = args.q + row * args.q_row_stride + head * args.q_head_stride,
           .q_row_stride = args.q_row_stride,
           .q_head_stride = args.q_head_stride,
           .out = args.out + row * args.out_row_stride + head * args.out_head_stride,
           .out_row_stride = args.out_row_stride,
           .out_head_stride = args.out_head_stride,
           .rows = 1,
           .heads = heads_per_kv,
           .key_dim = args.key_dim,
           .value_dim = args.value_dim,
           .keys = keys + kv_head * args.key_dim * element_bytes,
           .values = values + kv_head * args.value_dim * element_bytes,
           .key_stride = args.kv.key_stride,
           .value_stride = args.kv.value_stride,
           .kv_dtype = args.kv.dtype,
           .visible = place.position + 1,
           .scale = args.scale,
           .scratch = scratch});
    }
  }
  return 0;
}

int RouteRows(const RouteRowsArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    HostOps().route({.logits = args.logits + i * args.stride,
                     .bias = args.bias,
                     .expert_count = args.expert_count,
                     .top_k = args.top_k,
                     .group_count = args.group_count,
                     .groups_used = args.groups_used,
                     .group_score = args.group_score,
                     .score = args.score,
                     .normalize = args.normalize,
                     .weight_scale = args.weight_scale,
                     .experts = args.experts + i * args.top_k,
                     .weights = args.weights + i * args.top_k});
  }
  return 0;
}

ExpertTask TaskOf(const ExpertAddresses& addresses, int32_t expert) {
  const std::byte* const* parts = addresses.parts + int64_t{expert} * addresses.part_stride;
  return {.gate = parts[addresses.gate_part],
          .up = parts[addresses.up_part] + addresses.up_offset_bytes,
          .down = parts[addresses.down_part]};
}

int GroupPairs(const GroupPairsArgs& args, void*) {
  *args.task_count = 0;
  int32_t listed = 0;
  const int32_t* const end = args.experts + args.pair_count;
  for (const int32_t* expert = args.experts; expert != end; ++expert) {
    if (std::find(args.experts, expert, *expert) != expert) continue;
    ExpertTask& task = args.tasks[(*args.task_count)++];
    task = TaskOf(args.addresses, *expert);
    task.first_pair = listed;
    for (const int32_t* other = expert; other != end; ++other) {
      if (*other == *expert) args.pairs[listed++] = static_cast<int32_t>(other - args.experts);
    }
    task.pair_count = listed - task.first_pair;
  }
  return 0;
}

ExpertTask TaskAt(const ExpertGroupArgs& args, int32_t t) {
  if (args.chosen == nullptr) return args.tasks[t];
  ExpertTask task = TaskOf(args.addresses, args.chosen[t]);
  task.first_pair = t;
  task.pair_count = 1;
  return task;
}

int ExpertGroup(const ExpertGroupArgs& args, void*) {
  const DeviceActivations gated = {.x = args.gated,
                                   .stride = args.gated_stride,
                                   .q8x32 = args.gated_q8x32,
                                   .q8x256 = args.gated_q8x256};
  const ActivationKind kind = ActivationKindOf(args.down.dtype);
  float* up = Scratch<float>(0, args.gate.rows);
  const int tasks = args.tasks_there == nullptr ? args.task_count : *args.tasks_there;
  for (int t = 0; t < tasks; ++t) {
    const ExpertTask task = TaskAt(args, t);
    const auto with = [](MatrixView shape, const std::byte* data) {
      shape.data = data;
      return shape;
    };
    for (int32_t i = task.first_pair; i < task.first_pair + task.pair_count; ++i) {
      const int32_t pair = args.chosen != nullptr ? i : args.pairs[i];
      const int64_t row = pair / args.top_k;
      float* gate = args.gated + i * args.gated_stride;
      MultiplyRow(with(args.gate, task.gate), FormFor(args.gate, args.x, row), gate);
      MultiplyRow(with(args.up, task.up), FormFor(args.up, args.x, row), up);
      HostOps().silu_multiply(gate, up, args.gate.rows, gate);
      QuantizeRow(gate, i, args.gate.rows,
                  kind == ActivationKind::kQ8x32 ? args.gated_q8x32 : nullptr,
                  kind == ActivationKind::kQ8x256 ? args.gated_q8x256 : nullptr);
      const int64_t place = args.places == nullptr ? pair : args.places[pair];
      MultiplyRow(with(args.down, task.down), FormFor(args.down, gated, i),
                  args.partial + place * args.partial_stride);
    }
  }
  return 0;
}

int SumParts(const SumPartsArgs& args, void*) {
  for (int64_t row = 0; row < args.rows; ++row) {
    float* delta = args.delta + row * args.stride;
    std::fill_n(delta, args.cols, 0.0f);
    for (int64_t pair = row * args.top_k; pair < (row + 1) * args.top_k; ++pair) {
      const int64_t place = args.places == nullptr ? pair : args.places[pair];
      HostOps().multiply_add(args.weights[pair], args.partial + place * args.stride, args.cols,
                             delta);
    }
    if (args.shared == nullptr) continue;
    const float* shared = args.shared + row * args.stride;
    if (args.shared_gate == nullptr) {
      HostOps().add(shared, args.cols, delta);
    } else {
      const float gate = HostOps().sigmoid(args.shared_gate[row * args.shared_gate_stride]);
      HostOps().multiply_add(gate, shared, args.cols, delta);
    }
  }
  return 0;
}

int LogSumExp(const LogSumExpArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    args.out[i] = HostOps().log_sum_exp(args.x + i * args.stride, args.cols);
  }
  return 0;
}

int EmbedRows(const EmbedRowsArgs& args, void*) {
  for (int64_t i = 0; i < args.rows; ++i) {
    HostOps().decode(args.table.dtype, args.table.row(args.places[i].token), args.table.cols,
                     args.out + i * args.stride);
  }
  return 0;
}

}  // namespace

const DeviceOps kPlainDeviceOps = {
    .name = "plain",
    .norm_rows = MakeDeviceOp<NormRowsArgs, NormRows>("norm_rows"),
    .quantize_rows = MakeDeviceOp<QuantizeRowsArgs, QuantizeRows>("quantize_rows"),
    .matmul_rows = MakeDeviceOp<MatmulRowsArgs, MatmulRows>("matmul_rows"),
    .gate_rows = MakeDeviceOp<GateRowsArgs, GateRows>("gate_rows"),
    .finish_heads = MakeDeviceOp<FinishHeadsArgs, FinishHeads>("finish_heads"),
    .finish_latent = MakeDeviceOp<FinishLatentArgs, FinishLatent>("finish_latent"),
    .head_product = MakeDeviceOp<HeadProductArgs, HeadProduct>("head_product"),
    .attend_rows = MakeDeviceOp<AttendRowsArgs, AttendRows>("attend_rows"),
    .route_rows = MakeDeviceOp<RouteRowsArgs, RouteRows>("route_rows"),
    .group_pairs = MakeDeviceOp<GroupPairsArgs, GroupPairs>("group_pairs"),
    .expert_group = MakeDeviceOp<ExpertGroupArgs, ExpertGroup>("expert_group"),
    .sum_parts = MakeDeviceOp<SumPartsArgs, SumParts>("sum_parts"),
    .log_sum_exp = MakeDeviceOp<LogSumExpArgs, LogSumExp>("log_sum_exp"),
    .embed_rows = MakeDeviceOp<EmbedRowsArgs, EmbedRows>("embed_rows"),
};

}  // namespace stoker
