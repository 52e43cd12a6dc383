// Attention in which groups of query heads share a key-value head.
#include <algorithm>

#include "model/blocks/attention.h"

namespace stoker {
namespace {

// Bias, norm and rotation of the heads of a query or key row: x [heads * key_dim].
struct HeadSteps {
  const float* bias;
  const float* norm;
  int heads;
};
void FinishHeads(const Step& step, const HeadSteps& how, int32_t position, float* x) {
  const ModelConfig& c = step.config;
  const int64_t width = int64_t{how.heads} * c.key_dim;
  const int64_t pairs = c.rope.dims / 2;
  const float* cosines = step.work.cosines + position * pairs;
  const float* sines = step.work.sines + position * pairs;
  if (how.bias != nullptr) step.ops.add(how.bias, width, x);
  if (c.qk_norm == ModelConfig::QkNorm::kWhole) {
    step.ops.rms_norm(x, how.norm, width, c.norm_epsilon, x);
  }
  for (int head = 0; head < how.heads; ++head) {
    float* head_x = x + int64_t{head} * c.key_dim;
    if (c.qk_norm == ModelConfig::QkNorm::kPerHead) {
      step.ops.rms_norm(head_x, how.norm, c.key_dim, c.norm_epsilon, head_x);
    }
    step.ops.rope(head_x, cosines, sines, pairs, c.rope.pairing);
  }
}

void FinishRow(const Step& step, int layer, const AttentionWeights& w, int64_t row) {
  const ModelConfig& c = step.config;
  const StepRow& at = step.rows[static_cast<size_t>(row)];
  const int64_t key_width = int64_t{c.kv_head_count} * c.key_dim;
  const int64_t value_width = int64_t{c.kv_head_count} * c.value_dim;
  float* q = step.work.query + row * RowStride(int64_t{c.head_count} * c.key_dim);
  float* k = step.work.key + row * RowStride(key_width);
  float* v = step.work.value + row * RowStride(value_width);
  FinishHeads(step, {w.q_bias, w.q_norm, c.head_count}, at.position, q);
  FinishHeads(step, {w.k_bias, w.k_norm, c.kv_head_count}, at.position, k);
  if (w.v_bias != nullptr) step.ops.add(w.v_bias, value_width, v);
  const auto element_bytes = static_cast<int64_t>(RowBytes(step.kv.options().dtype, 1));
  StoreCached(
      step, k, key_width,
      step.kv.Keys(layer, at.sequence) + at.position * step.kv.key_stride() * element_bytes);
  StoreCached(
      step, v, value_width,
      step.kv.Values(layer, at.sequence) + at.position * step.kv.value_stride() * element_bytes);
}

void RunTask(const Step& step, int layer, const AttentionTask& task, int worker) {
  const ModelConfig& c = step.config;
  const Workspace& work = step.work;
  const int64_t kv_head = task.head / (c.head_count / c.kv_head_count);
  const int64_t query_stride = RowStride(int64_t{c.head_count} * c.key_dim);
  const int64_t out_stride = RowStride(int64_t{c.head_count} * c.value_dim);
  const auto element_bytes = static_cast<int64_t>(RowBytes(step.kv.options().dtype, 1));
  step.ops.attention({
      .q = work.query + task.row * query_stride + int64_t{task.head} * c.key_dim,
      .q_row_stride = query_stride,
      .q_head_stride = c.key_dim,
      .out = work.attended + task.row * out_stride + int64_t{task.head} * c.value_dim,
      .out_row_stride = out_stride,
      .out_head_stride = c.value_dim,
      .rows = task.count,
      .heads = task.heads,
      .key_dim = c.key_dim,
      .value_dim = c.value_dim,
      .keys = step.kv.Keys(layer, task.sequence) + kv_head * c.key_dim * element_bytes,
      .values = step.kv.Values(layer, task.sequence) + kv_head * c.value_dim * element_bytes,
      .key_stride = step.kv.key_stride(),
      .value_stride = step.kv.value_stride(),
      .kv_dtype = step.kv.options().dtype,
      .first_key = 0,
      .visible = int64_t{task.position} + 1,
      .scale = c.attention_scale,
      .scratch = work.worker_floats + worker * work.attention_floats,
  });
}

}  // namespace

void GroupedAttention(const Step& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  const int64_t rows = step.row_count();
  work.input.Quantize(step.ops, step.team, KindSet::Of({&w.q, &w.k, &w.v}));
  const MatmulArgs products[] = {
      Product(w.q, work.input, OutRows(work.outs, work.query, rows, w.q.rows)),
      Product(w.k, work.input, OutRows(work.outs + rows, work.key, rows, w.k.rows)),
      Product(w.v, work.input, OutRows(work.outs + 2 * rows, work.value, rows, w.v.rows)),
  };
  RunProducts(step.ops, step.team, products);
  ForEachRow(step, [&](int64_t row) { FinishRow(step, layer, w, row); });
  const int64_t tasks = PlanAttention(step, c.kv_head_count, c.head_count / c.kv_head_count);
  step.team.ParallelFor(tasks, 1, [&](int64_t task, int64_t, int worker) {
    RunTask(step, layer, work.tasks[task], worker);
  });
}

}  // namespace stoker
