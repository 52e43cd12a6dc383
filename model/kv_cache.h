// The attention cache of all running sequences.
//
// kGrouped layers keep per position kv_head_count keys and values; kLatent layers keep the
// normalized latent (kv_rank values, which serve as key and value) followed by the rotated part:
// one row shared by all heads. Each sequence slot is a contiguous run of positions per layer, so
// truncating is changing a length.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "device/buffer.h"
#include "model/config.h"

namespace stoker {

class KvCache {
 public:
  struct Options {
    int sequence_count = 1;
    int context = 0;            // positions per sequence
    Dtype dtype = Dtype::kF16;  // kF16 or kF32
  };
  static uint64_t PlanBytes(const ModelConfig& config, const Options& options);
  static absl::StatusOr<KvCache> Create(const ModelConfig& config, const Options& options);

  const Options& options() const { return options_; }
  int length(int sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  // Forgets positions from `length` on. Requires length <= the present one.
  void Truncate(int sequence, int length);

  // For the forward pass. Rows are in elements of dtype; position p of a layer's sequence is at
  // Keys() + p * key_stride().
  std::byte* Keys(int layer, int sequence) const;
  std::byte* Values(int layer, int sequence) const;  // kLatent: the same rows as Keys
  int64_t key_stride() const { return key_stride_; }
  int64_t value_stride() const { return value_stride_; }
  void Extend(int sequence, int length) { lengths_[static_cast<size_t>(sequence)] = length; }

 private:
  Options options_;
  int64_t key_stride_ = 0, value_stride_ = 0;      // elements per position
  uint64_t sequence_bytes_ = 0, layer_bytes_ = 0;  // strides of the buffer
  uint64_t values_offset_ = 0;                     // of a layer's values within its sequence block
  std::vector<int> lengths_;
  HostBuffer memory_;
};

}  // namespace stoker
