// What every part of a layer works with during one step on a device, and the products they share.
#pragma once

#include <initializer_list>

#include "absl/types/span.h"
#include "base/time_ledger.h"
#include "device/device.h"
#include "kernels/device_ops.h"
#include "model/config.h"
#include "model/device_workspace.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace stoker {

// All work is queued on one stream, in the order of the forward pass, small copies included: there
// they wait for nothing but what they have to, whereas the copy streams can be busy with experts.
struct DeviceStep {
  const ModelConfig& config;
  Device& device;
  Stream stream;
  const DeviceOps& ops;
  const DeviceWorkspace& work;
  const KvCache& kv;
  const RowPlace* places;  // on the device
  int64_t rows;
  int32_t positions_max;  // above every row's position
  int64_t keys_total;     // that all rows together attend to
  TimeLedger* ledger;     // may be null

  template <typename Args>
  void Queue(const DeviceOp<Args>& op, const Args& args) const {
    Enqueue(device, stream, op, args);
  }
  // Products of the same rows of `cols` columns.
  void Multiply(const DeviceRows& x, int64_t cols,
                std::initializer_list<MatmulRowsArgs::Product> products) const;
};

// All rows of `w`, to rows that lie RowStride(w.rows) apart.
inline MatmulRowsArgs::Product ProductTo(const MatrixView& w, float* out) {
  return {.w = w, .out = out, .out_stride = RowStride(w.rows)};
}

// out = down * (silu(gate * x) .* (up * x)), [rows, hidden]. With `gated_by`, a matrix of one row,
// its product with x goes to `gating`.
struct FeedForwardTarget {
  float* out = nullptr;
  const MatrixView* gated_by = nullptr;
  float* gating = nullptr;
};
void QueueFeedForward(const DeviceStep& step, const FeedForwardWeights& weights,
                      const DeviceRows& x, const FeedForwardTarget& target);

// work.delta = the attention of work.normed; keys and values appended to the cache.
void QueueAttention(const DeviceStep& step, int layer, const AttentionWeights& weights);

}  // namespace stoker
