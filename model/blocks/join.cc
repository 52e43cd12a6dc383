// Norms of both halves side by side, then one product.
#include "model/blocks/join.h"

namespace stoker {

void JoinStates(const Step& step, const MtpWeights& w, absl::Span<const MtpRow> rows) {
  const ModelConfig& c = step.config;
  Workspace& work = step.work;
  const int64_t width = 2 * int64_t{c.hidden};
  ForEachRow(step, [&](int64_t row) {
    const float* embedding = work.residual + row * RowStride(c.hidden);
    const float* state = rows[static_cast<size_t>(row)].hidden;
    float* joined = work.mtp.joined + row * RowStride(width);
    step.ops.rms_norm(embedding, w.embedding_norm, c.hidden, c.norm_epsilon, joined);
    step.ops.rms_norm(state, w.state_norm, c.hidden, c.norm_epsilon, joined + c.hidden);
  });
  work.mtp.input.Assign(work.mtp.joined, RowStride(width), step.row_count(), width);
  work.mtp.input.Quantize(step.ops, step.team, KindSet::Of({&w.join}));
  const MatmulArgs product = Product(w.join, work.mtp.input,
                                     OutRows(work.outs, work.residual, step.row_count(), c.hidden));
  RunProducts(step.ops, step.team, {&product, 1});
}

}  // namespace stoker
