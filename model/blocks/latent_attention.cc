// DeepSeek's multi-head latent attention (arXiv:2405.04434), absorbed: one cached row a position,
// shared by all heads, serves as key and, but for its rotated part, as value.
//
// One algorithm for prompts and for decoding: what an absorbed prompt costs more than one with
// keys and values written out is the price of results that do not show how a prompt was cut.
#include <algorithm>
#include <cstring>

#include "model/blocks/attention.h"

namespace stoker {
namespace {

// A cached row is the normalized latent followed by the rotated part.
void FinishRow(const Step& step, int layer, const AttentionWeights& w, int64_t row) {
  const ModelConfig& c = step.config;
  const StepRow& at = step.rows[static_cast<size_t>(row)];
  const int64_t pairs = c.rope.dims / 2;
  const int64_t width = c.kv_rank + c.rope.dims;
  float* latent = step.work.key + row * RowStride(width);
  step.ops.rms_norm(latent, w.kv_a_norm, c.kv_rank, c.norm_epsilon, latent);
  step.ops.rope(latent + c.kv_rank, step.work.cosines + at.position * pairs,
                step.work.sines + at.position * pairs, pairs, c.rope.pairing);
  const auto element_bytes = static_cast<int64_t>(RowBytes(step.kv.options().dtype, 1));
  StoreCached(
      step, latent, width,
      step.kv.Keys(layer, at.sequence) + at.position * step.kv.key_stride() * element_bytes);
  if (c.q_rank == 0) return;
  float* low = step.work.query_low + row * RowStride(c.q_rank);
  step.ops.rms_norm(low, w.q_a_norm, c.q_rank, c.norm_epsilon, low);
}

// Rows of one head as activations of a small product, in a worker's own memory.
struct HeadRows {
  const std::byte* rows[kTaskQueries];
  const std::byte* panels = nullptr;
};
// x: `count` rows of `cols` floats, `stride` apart.
void QuantizeHead(const Step& step, ActivationKind kind, const float* x, int64_t stride, int count,
                  int64_t cols, std::byte* memory, HeadRows& out) {
  const size_t row_bytes = ActivationRowBytes(kind, cols);
  for (int i = 0; i < count; ++i) {
    std::byte* row = memory + static_cast<size_t>(i) * row_bytes;
    step.ops.quantize(kind, x + i * stride, cols, row);
    out.rows[i] = row;
  }
  const size_t panel_bytes = PanelBytes(kind, cols);
  out.panels = nullptr;
  if (panel_bytes == 0 || count < kPanelRowsMin) return;
  std::byte* panels = memory + kTaskQueries * row_bytes;
  out.panels = panels;
  for (int first = 0; first < count; first += kPanelRows, panels += panel_bytes) {
    step.ops.pack(kind, out.rows + first, std::min<int64_t>(kPanelRows, count - first), cols,
                  panels);
  }
}

// out[i] = w * x[i] for rows [first_row, first_row + row_count) of w.
struct HeadProduct {
  const MatrixView& w;
  int64_t first_row;
  int64_t row_count;
  const float* x;
  int64_t x_stride;
  float* out;
  int64_t out_stride;
};
void RunHeadProduct(const Step& step, const HeadProduct& p, int count, std::byte* memory) {
  HeadRows x;
  QuantizeHead(step, ActivationKindOf(p.w.dtype), p.x, p.x_stride, count, p.w.cols, memory, x);
  float* outs[kTaskQueries];
  for (int i = 0; i < count; ++i) outs[i] = p.out + i * p.out_stride;
  const MatrixView head = {p.w.row(p.first_row), p.w.dtype, p.row_count, p.w.cols};
  step.ops.matmul({.w = head,
                   .row_begin = 0,
                   .row_end = p.row_count,
                   .count = count,
                   .x = x.rows,
                   .panels = x.panels,
                   .out = outs});
}

// Queries of a task by head: [heads, rows, kv_rank + rope dims], the absorbed part W_K^T q first,
// the rotated part behind it.
void AbsorbQueries(const Step& step, const AttentionWeights& w, const AttentionTask& task,
                   float* absorbed, std::byte* memory) {
  const ModelConfig& c = step.config;
  const int64_t plain_dim = c.key_dim - c.rope.dims;
  const int64_t pairs = c.rope.dims / 2;
  const int64_t query_stride = RowStride(int64_t{c.head_count} * c.key_dim);
  const int64_t stride = RowStride(c.kv_rank + c.rope.dims);
  for (int h = 0; h < task.heads; ++h) {
    const int64_t head = task.head + h;
    const float* q = step.work.query + task.row * query_stride + head * c.key_dim;
    float* out = absorbed + int64_t{h} * task.count * stride;
    RunHeadProduct(step, {w.key_up, head * c.kv_rank, c.kv_rank, q, query_stride, out, stride},
                   task.count, memory);
    for (int i = 0; i < task.count; ++i) {
      float* rotated = out + i * stride + c.kv_rank;
      std::memcpy(rotated, q + i * query_stride + plain_dim,
                  static_cast<size_t>(c.rope.dims) * sizeof(float));
      step.ops.rope(rotated, step.work.cosines + (task.position + i) * pairs,
                    step.work.sines + (task.position + i) * pairs, pairs, c.rope.pairing);
    }
  }
}

void RunTask(const Step& step, int layer, const AttentionWeights& w, const AttentionTask& task,
             int worker) {
  const ModelConfig& c = step.config;
  const Workspace& work = step.work;
  const int64_t query_stride = RowStride(c.kv_rank + c.rope.dims);
  const int64_t context_stride = RowStride(c.kv_rank);
  float* scratch = work.worker_floats + worker * (work.attention_floats + work.latent_floats);
  float* absorbed = scratch + work.attention_floats;        // [heads, rows, kv_rank + rope dims]
  float* context = absorbed + kTaskQueries * query_stride;  // [heads, rows, kv_rank]
  std::byte* memory = work.worker_bytes + worker * work.latent_bytes;

  AbsorbQueries(step, w, task, absorbed, memory);
  step.ops.attention({
      .q = absorbed,
      .q_row_stride = query_stride,
      .q_head_stride = task.count * query_stride,
      .out = context,
      .out_row_stride = context_stride,
      .out_head_stride = task.count * context_stride,
      .rows = task.count,
      .heads = task.heads,
      .key_dim = c.kv_rank + c.rope.dims,
      .value_dim = c.kv_rank,
      .keys = step.kv.Keys(layer, task.sequence),
      .values = step.kv.Values(layer, task.sequence),
      .key_stride = step.kv.key_stride(),
      .value_stride = step.kv.value_stride(),
      .kv_dtype = step.kv.options().dtype,
      .first_key = 0,
      .visible = int64_t{task.position} + 1,
      .scale = c.attention_scale,
      .scratch = scratch,
  });
  const int64_t out_stride = RowStride(int64_t{c.head_count} * c.value_dim);
  for (int h = 0; h < task.heads; ++h) {
    const int64_t head = task.head + h;
    RunHeadProduct(step,
                   {w.value_up, head * w.value_head_rows + w.value_first_row, c.value_dim,
                    context + int64_t{h} * task.count * context_stride, context_stride,
                    work.attended + task.row * out_stride + head * c.value_dim, out_stride},
                   task.count, memory);
  }
}

}  // namespace

void LatentAttention(const Step& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  const int64_t rows = step.row_count();
  const bool is_compressed = c.q_rank > 0;
  const MatrixView& first = is_compressed ? w.q_a : w.q;
  float* first_out = is_compressed ? work.query_low : work.query;
  work.input.Quantize(step.ops, step.team, KindSet::Of({&first, &w.kv_a}));
  const MatmulArgs down[] = {
      Product(first, work.input, OutRows(work.outs, first_out, rows, first.rows)),
      Product(w.kv_a, work.input, OutRows(work.outs + rows, work.key, rows, w.kv_a.rows)),
  };
  RunProducts(step.ops, step.team, down);
  ForEachRow(step, [&](int64_t row) { FinishRow(step, layer, w, row); });
  if (is_compressed) {
    work.inner.Assign(work.query_low, RowStride(c.q_rank), rows, c.q_rank);
    work.inner.Quantize(step.ops, step.team, KindSet::Of({&w.q_b}));
    const MatmulArgs up =
        Product(w.q_b, work.inner, OutRows(work.outs, work.query, rows, w.q_b.rows));
    RunProducts(step.ops, step.team, {&up, 1});
  }
  const int64_t tasks = PlanAttention(step, 1, c.head_count);
  step.team.ParallelFor(tasks, 1, [&](int64_t task, int64_t, int worker) {
    RunTask(step, layer, w, work.tasks[task], worker);
  });
}

}  // namespace stoker
