// The attention cache of all running sequences.
//
// kGrouped layers keep per position kv_head_count keys and values; kLatent layers keep the
// normalized latent (kv_rank values, which serve as key and value) followed by the rotated part:
// one row shared by all heads.
//
// On the host each sequence slot is a contiguous run of positions per layer, so truncating is
// changing a length. On a device positions lie in pages, which a sequence takes as it grows and
// gives back when truncated; there are enough for every sequence to reach its context.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "device/buffer.h"
#include "device/device.h"
#include "kernels/device_args.h"
#include "model/config.h"

namespace stoker {

class KvCache {
 public:
  struct Options {
    int sequence_count = 1;
    int context = 0;            // positions per sequence
    Dtype dtype = Dtype::kF16;  // kF16 or kF32
    Device* device = nullptr;   // where it lives; null: on the host
    int layer_count = 0;        // 0: the model's trunk layers
  };
  // Bytes taken on the device, or else on the host; options.device is not looked at.
  static uint64_t PlanBytes(const ModelConfig& config, const Options& options, bool on_device);
  static absl::StatusOr<KvCache> Create(const ModelConfig& config, const Options& options);

  const Options& options() const { return options_; }
  int length(int sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  // Forgets positions from `length` on. Requires length <= the present one, and on a device that
  // no step is running.
  void Truncate(int sequence, int length);

  // For the forward pass. Rows are in elements of dtype.
  int64_t key_stride() const { return key_stride_; }
  int64_t value_stride() const { return value_stride_; }
  void Extend(int sequence, int length) { lengths_[static_cast<size_t>(sequence)] = length; }

  // On the host: position p of a layer's sequence is at Keys() + p * key_stride().
  std::byte* Keys(int layer, int sequence) const;
  std::byte* Values(int layer, int sequence) const;  // kLatent: the same rows as Keys

  // On a device: makes room for the positions below `length`, which is at most the context.
  void Reserve(int sequence, int length);
  // On a device: queues a copy of the table of pages, if it has changed, ahead of what reads it.
  void SendTable(Stream stream);
  KvLayer Layer(int layer) const;
  int free_page_count() const { return static_cast<int>(free_pages_.size()); }

 private:
  Options options_;
  int64_t key_stride_ = 0, value_stride_ = 0;      // elements per position
  uint64_t sequence_bytes_ = 0, layer_bytes_ = 0;  // strides of the buffer
  uint64_t values_offset_ = 0;  // of values behind keys: host: in a sequence's block; device: in a
                                // layer's
  std::vector<int> lengths_;
  HostBuffer memory_;

  // On a device: the pages of all layers, then the table.
  DeviceBuffer pages_;
  std::byte* device_table_ = nullptr;
  std::vector<int32_t> table_;       // [sequences, pages_per_sequence_]
  std::vector<int32_t> free_pages_;  // the next to be taken last
  std::vector<int> page_counts_;     // taken by each sequence
  int pages_per_sequence_ = 0;
  bool table_changed_ = false;
};

}  // namespace stoker
