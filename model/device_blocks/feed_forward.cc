// Gate and up in one launch, the activation function with the quantization behind it, then down.
#include "base/check.h"
#include "model/device_blocks/step.h"

namespace stoker {

void DeviceStep::Multiply(const DeviceRows& x, int64_t cols,
                          std::initializer_list<MatmulRowsArgs::Product> products) const {
  MatmulRowsArgs args = {.x = x.view(), .rows = rows, .cols = cols};
  CHECK(products.size() <= MatmulRowsArgs::kProductsMax);
  for (const MatmulRowsArgs::Product& product : products) {
    args.products[args.product_count++] = product;
  }
  Queue(ops.matmul_rows, args);
}

void QueueFeedForward(const DeviceStep& step, const FeedForwardWeights& w, const DeviceRows& x,
                      const FeedForwardTarget& target) {
  const DeviceWorkspace& work = step.work;
  const int64_t width = w.gate.rows;
  const int64_t hidden = step.config.hidden;
  if (target.gated_by == nullptr) {
    step.Multiply(x, hidden, {ProductTo(w.gate, work.gate), ProductTo(w.up, work.up)});
  } else {
    step.Multiply(x, hidden,
                  {ProductTo(w.gate, work.gate), ProductTo(w.up, work.up),
                   ProductTo(*target.gated_by, target.gating)});
  }
  DeviceRows gated = work.inner.Only(KindSet::Of({&w.down}));
  gated.x = work.gate;
  gated.stride = RowStride(width);
  step.Queue(step.ops.gate_rows, {.gate = work.gate,
                                  .up = work.up,
                                  .y = work.gate,
                                  .rows = step.rows,
                                  .cols = width,
                                  .stride = gated.stride,
                                  .q8x32 = gated.q8x32,
                                  .q8x256 = gated.q8x256});
  step.Multiply(gated, width, {ProductTo(w.down, target.out)});
}

}  // namespace stoker
