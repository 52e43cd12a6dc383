// Both kinds of attention as launches: first products, heads finished, attention, output product.
#include "model/device_blocks/step.h"

namespace stoker {
namespace {

FinishHeadsArgs::Norm NormOf(ModelConfig::QkNorm norm) {
  switch (norm) {
    case ModelConfig::QkNorm::kNone:
      return FinishHeadsArgs::Norm::kNone;
    case ModelConfig::QkNorm::kPerHead:
      return FinishHeadsArgs::Norm::kPerHead;
    case ModelConfig::QkNorm::kWhole:
      return FinishHeadsArgs::Norm::kWhole;
  }
  return FinishHeadsArgs::Norm::kNone;
}

// What both kinds tell the attention operation; queries, heads and their sizes are to be set.
AttendRowsArgs Attend(const DeviceStep& step, int layer) {
  return {.places = step.places,
          .rows = step.rows,
          .heads = step.config.head_count,
          .kv = step.kv.Layer(layer),
          .scale = step.config.attention_scale,
          .scratch = step.work.attention_scratch,
          .positions_max = step.positions_max,
          .keys_total = step.keys_total};
}

void QueueGrouped(const DeviceStep& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  const DeviceWorkspace& work = step.work;
  const int64_t q_stride = RowStride(w.q.rows);
  step.Multiply(work.normed, c.hidden,
                {ProductTo(w.q, work.query), ProductTo(w.k, work.key), ProductTo(w.v, work.value)});
  step.Queue(step.ops.finish_heads, {.places = step.places,
                                     .q = work.query,
                                     .k = work.key,
                                     .v = work.value,
                                     .q_stride = q_stride,
                                     .k_stride = RowStride(w.k.rows),
                                     .v_stride = RowStride(w.v.rows),
                                     .q_bias = w.q_bias,
                                     .k_bias = w.k_bias,
                                     .v_bias = w.v_bias,
                                     .q_norm = w.q_norm,
                                     .k_norm = w.k_norm,
                                     .norm = NormOf(c.qk_norm),
                                     .epsilon = c.norm_epsilon,
                                     .heads = c.head_count,
                                     .kv_heads = c.kv_head_count,
                                     .key_dim = c.key_dim,
                                     .value_dim = c.value_dim,
                                     .rows = step.rows,
                                     .rope = work.rope,
                                     .kv = step.kv.Layer(layer)});
  AttendRowsArgs attend = Attend(step, layer);
  attend.q = work.query;
  attend.q_row_stride = q_stride;
  attend.q_head_stride = c.key_dim;
  attend.out = work.attended;
  attend.out_row_stride = RowStride(int64_t{c.head_count} * c.value_dim);
  attend.out_head_stride = c.value_dim;
  attend.kv_heads = c.kv_head_count;
  attend.key_dim = c.key_dim;
  attend.value_dim = c.value_dim;
  step.Queue(step.ops.attend_rows, attend);
}

// The first products of latent attention, up to work.query and the row's place in the cache.
void QueueLatentQueries(const DeviceStep& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  const DeviceWorkspace& work = step.work;
  const bool is_compressed = c.q_rank > 0;
  const MatrixView& first = is_compressed ? w.q_a : w.q;
  step.Multiply(
      work.normed, c.hidden,
      {ProductTo(first, is_compressed ? work.query_low : work.query), ProductTo(w.kv_a, work.key)});
  DeviceRows low = work.inner.Only(KindSet::Of({&w.q_b}));
  low.x = work.query_low;
  low.stride = RowStride(c.q_rank);
  step.Queue(step.ops.finish_latent, {.places = step.places,
                                      .latent = work.key,
                                      .latent_stride = RowStride(c.kv_rank + c.rope.dims),
                                      .latent_norm = w.kv_a_norm,
                                      .query_low = is_compressed ? work.query_low : nullptr,
                                      .query_low_stride = low.stride,
                                      .query_low_norm = w.q_a_norm,
                                      .q8x32 = low.q8x32,
                                      .q8x256 = low.q8x256,
                                      .kv_rank = c.kv_rank,
                                      .q_rank = c.q_rank,
                                      .epsilon = c.norm_epsilon,
                                      .rows = step.rows,
                                      .rope = work.rope,
                                      .kv = step.kv.Layer(layer)});
  if (is_compressed) step.Multiply(low, c.q_rank, {ProductTo(w.q_b, work.query)});
}

void QueueLatent(const DeviceStep& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  const DeviceWorkspace& work = step.work;
  QueueLatentQueries(step, layer, w);
  const int64_t absorbed_stride = RowStride(c.kv_rank + c.rope.dims);
  const int64_t context_stride = RowStride(c.kv_rank);
  step.Queue(step.ops.head_product, {.places = step.places,
                                     .w = w.key_up,
                                     .head_rows = c.kv_rank,
                                     .first_row = 0,
                                     .row_count = c.kv_rank,
                                     .x = work.query,
                                     .x_row_stride = RowStride(int64_t{c.head_count} * c.key_dim),
                                     .x_head_stride = c.key_dim,
                                     .out = work.absorbed,
                                     .out_row_stride = c.head_count * absorbed_stride,
                                     .out_head_stride = absorbed_stride,
                                     .rows = step.rows,
                                     .heads = c.head_count,
                                     .rope = work.rope});
  AttendRowsArgs attend = Attend(step, layer);
  attend.q = work.absorbed;
  attend.q_row_stride = c.head_count * absorbed_stride;
  attend.q_head_stride = absorbed_stride;
  attend.out = work.context;
  attend.out_row_stride = c.head_count * context_stride;
  attend.out_head_stride = context_stride;
  attend.kv_heads = 1;
  attend.key_dim = c.kv_rank + c.rope.dims;
  attend.value_dim = c.kv_rank;
  step.Queue(step.ops.attend_rows, attend);
  step.Queue(step.ops.head_product,
             {.places = step.places,
              .w = w.value_up,
              .head_rows = w.value_head_rows,
              .first_row = w.value_first_row,
              .row_count = c.value_dim,
              .x = work.context,
              .x_row_stride = c.head_count * context_stride,
              .x_head_stride = context_stride,
              .out = work.attended,
              .out_row_stride = RowStride(int64_t{c.head_count} * c.value_dim),
              .out_head_stride = c.value_dim,
              .rows = step.rows,
              .heads = c.head_count});
}

}  // namespace

void QueueAttention(const DeviceStep& step, int layer, const AttentionWeights& w) {
  const ModelConfig& c = step.config;
  const DeviceWorkspace& work = step.work;
  if (c.attention == AttentionKind::kLatent) {
    QueueLatent(step, layer, w);
  } else {
    QueueGrouped(step, layer, w);
  }
  const int64_t width = int64_t{c.head_count} * c.value_dim;
  DeviceRows attended = work.inner.Only(KindSet::Of({&w.output}));
  attended.x = work.attended;
  attended.stride = RowStride(width);
  if (attended.q8x32 != nullptr || attended.q8x256 != nullptr) {
    step.Queue(step.ops.quantize_rows, {.x = attended.x,
                                        .rows = step.rows,
                                        .cols = width,
                                        .stride = attended.stride,
                                        .q8x32 = attended.q8x32,
                                        .q8x256 = attended.q8x256});
  }
  step.Multiply(attended, width, {ProductTo(w.output, work.delta)});
}

}  // namespace stoker
