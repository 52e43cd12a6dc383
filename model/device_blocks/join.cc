// Norms of both halves side by side, their quantized forms, then one product.
#include "model/device_blocks/join.h"

namespace stoker {

void QueueJoin(const DeviceStep& step, const MtpWeights& w) {
  const int64_t hidden = step.config.hidden;
  const DeviceMtpArrays& mtp = step.work.mtp;
  const auto norm = [&](int64_t from, const float* weight) {
    step.Queue(step.ops.norm_rows, {.residual = mtp.halves + from,
                                    .weight = weight,
                                    .out = mtp.joined.x + from,
                                    .rows = step.rows,
                                    .cols = hidden,
                                    .stride = mtp.joined.stride,
                                    .epsilon = step.config.norm_epsilon});
  };
  norm(0, w.embedding_norm);
  norm(hidden, w.state_norm);
  const DeviceRows joined = mtp.joined.Only(KindSet::Of({&w.join}));
  if (joined.q8x32 != nullptr || joined.q8x256 != nullptr) {
    step.Queue(step.ops.quantize_rows, {.x = joined.x,
                                        .rows = step.rows,
                                        .cols = 2 * hidden,
                                        .stride = joined.stride,
                                        .q8x32 = joined.q8x32,
                                        .q8x256 = joined.q8x256});
  }
  step.Multiply(joined, 2 * hidden, {ProductTo(w.join, step.work.residual)});
}

}  // namespace stoker
