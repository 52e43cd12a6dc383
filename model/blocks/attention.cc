// What both kinds of attention share: the tasks, the cache's dtype, the output product.
#include "model/blocks/attention.h"

#include <algorithm>
#include <cstring>

namespace stoker {
namespace {

// Heads of one task: few enough that all tasks together keep every thread busy.
int HeadsPerTask(const Step& step, int kv_heads, int heads_per_kv) {
  int64_t blocks = 0;
  int rows_max = 1;
  for (const SequenceRun& run : step.runs) {
    blocks += (run.count + kTaskQueries - 1) / kTaskQueries;
    rows_max = std::max(rows_max, std::min(run.count, kTaskQueries));
  }
  int heads = std::clamp(kTaskQueries / rows_max, 1, heads_per_kv);
  const int64_t tasks_wanted = 2 * int64_t{step.team.thread_count()};
  while (heads > 1 && blocks * kv_heads * ((heads_per_kv + heads - 1) / heads) < tasks_wanted) {
    heads = (heads + 1) / 2;
  }
  return heads;
}

}  // namespace

int64_t PlanAttention(const Step& step, int kv_heads, int heads_per_kv) {
  const int heads = HeadsPerTask(step, kv_heads, heads_per_kv);
  int64_t count = 0;
  for (const SequenceRun& run : step.runs) {
    // Later rows see more keys; the longest tasks go first, so that the last to end is short.
    const int32_t blocks = (run.count + kTaskQueries - 1) / kTaskQueries;
    for (int32_t block = blocks - 1; block >= 0; --block) {
      const int32_t first = block * kTaskQueries;
      for (int32_t head = 0; head < kv_heads * heads_per_kv;) {
        const int32_t group_end = (head / heads_per_kv + 1) * heads_per_kv;
        const int32_t taken = std::min(heads, group_end - head);
        step.work.tasks[count++] = {.row = run.row + first,
                                    .count = std::min(kTaskQueries, run.count - first),
                                    .sequence = run.sequence,
                                    .position = run.position + first,
                                    .head = head,
                                    .heads = taken};
        head += taken;
      }
    }
  }
  return count;
}

void StoreCached(const Step& step, const float* x, int64_t n, std::byte* cached) {
  if (step.kv.options().dtype == Dtype::kF32) {
    std::memcpy(cached, x, static_cast<size_t>(n) * sizeof(float));
  } else {
    step.ops.to_f16(x, n, reinterpret_cast<uint16_t*>(cached));
  }
}

void Attention(const Step& step, int layer, const AttentionWeights& weights) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  work.input.Assign(work.normed, RowStride(c.hidden), step.row_count(), c.hidden);
  if (c.attention == AttentionKind::kLatent) {
    LatentAttention(step, layer, weights);
  } else {
    GroupedAttention(step, layer, weights);
  }
  const int64_t width = int64_t{c.head_count} * c.value_dim;
  work.inner.Assign(work.attended, RowStride(width), step.row_count(), width);
  work.inner.Quantize(step.ops, step.team, KindSet::Of({&weights.output}));
  float* const* out = OutRows(work.outs, work.delta, step.row_count(), c.hidden);
  const MatmulArgs product = Product(weights.output, work.inner, out);
  RunProducts(step.ops, step.team, {&product, 1});
}

}  // namespace stoker
