// Gate and up in one region, the activation function with the quantization behind it, then down.
#include "model/blocks/feed_forward.h"

#include <algorithm>

namespace stoker {

void FeedForward(const Step& step, const FeedForwardWeights& w, float* out) {
  constexpr int64_t kCols = 1024;  // of one piece of the element-wise work; groups of 256 are whole
  Workspace& work = step.work;
  const int64_t rows = step.row_count();
  const int64_t width = w.gate.rows;
  const int64_t stride = RowStride(width);
  const MatmulArgs products[] = {
      Product(w.gate, work.input, OutRows(work.outs, work.gate, rows, width)),
      Product(w.up, work.input, OutRows(work.outs + rows, work.up, rows, width)),
  };
  RunProducts(step.ops, step.team, products);

  const KindSet kinds = KindSet::Of({&w.down});
  work.inner.Assign(work.gate, stride, rows, width);
  const int64_t pieces = (width + kCols - 1) / kCols;
  step.team.ParallelFor(rows * pieces, 1, [&](int64_t task, int64_t, int) {
    const int64_t row = task / pieces;
    const int64_t begin = task % pieces * kCols;
    const int64_t end = std::min(width, begin + kCols);
    float* gate = work.gate + row * stride + begin;
    step.ops.silu_multiply(gate, work.up + row * stride + begin, end - begin, gate);
    work.inner.QuantizeRow(step.ops, kinds, row, begin, end);
  });
  work.inner.Pack(step.ops, step.team, kinds);
  const MatmulArgs down =
      Product(w.down, work.inner, OutRows(work.outs, out, rows, step.config.hidden));
  RunProducts(step.ops, step.team, {&down, 1});
}

}  // namespace stoker
