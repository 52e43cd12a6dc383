// One buffer, cut by layer, then sequence, then keys before values.
#include "model/kv_cache.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"

namespace stoker {
namespace {

constexpr uint64_t kAlignment = 64;

struct Shape {
  int64_t key_width = 0;    // elements per position
  int64_t value_width = 0;  // 0: values are the keys' rows
  uint64_t key_bytes = 0;   // of one layer's sequence
  uint64_t value_bytes = 0;
};

Shape ShapeOf(const ModelConfig& config, const KvCache::Options& options) {
  Shape shape;
  if (config.attention == AttentionKind::kLatent) {
    shape.key_width = config.kv_rank + config.rope.dims;
  } else {
    shape.key_width = int64_t{config.kv_head_count} * config.key_dim;
    shape.value_width = int64_t{config.kv_head_count} * config.value_dim;
  }
  const auto bytes = [&](int64_t width) {
    const uint64_t row = RowBytes(options.dtype, width);
    return (row * static_cast<uint64_t>(options.context) + kAlignment - 1) / kAlignment *
           kAlignment;
  };
  shape.key_bytes = bytes(shape.key_width);
  shape.value_bytes = bytes(shape.value_width);
  return shape;
}

}  // namespace

uint64_t KvCache::PlanBytes(const ModelConfig& config, const Options& options) {
  const Shape shape = ShapeOf(config, options);
  return (shape.key_bytes + shape.value_bytes) * static_cast<uint64_t>(options.sequence_count) *
         static_cast<uint64_t>(config.layer_count);
}

absl::StatusOr<KvCache> KvCache::Create(const ModelConfig& config, const Options& options) {
  CHECK(options.dtype == Dtype::kF16 || options.dtype == Dtype::kF32);
  CHECK(options.sequence_count >= 1 && options.context >= 1);
  const Shape shape = ShapeOf(config, options);
  const uint64_t bytes = PlanBytes(config, options);
  KvCache cache;
  absl::StatusOr<HostBuffer> memory = HostBuffer::Create(bytes);
  if (!memory.ok()) {
    return WithContext(memory.status(),
                       fmt::format("taking {} for the attention cache of {} sequence(s) of {} "
                                   "positions (a shorter context takes less)",
                                   FormatBytes(bytes), options.sequence_count, options.context));
  }
  cache.memory_ = *std::move(memory);
  cache.options_ = options;
  cache.key_stride_ = shape.key_width;
  cache.value_stride_ = shape.value_width == 0 ? shape.key_width : shape.value_width;
  cache.values_offset_ = shape.value_width == 0 ? 0 : shape.key_bytes;
  cache.sequence_bytes_ = shape.key_bytes + shape.value_bytes;
  cache.layer_bytes_ = cache.sequence_bytes_ * static_cast<uint64_t>(options.sequence_count);
  cache.lengths_.assign(static_cast<size_t>(options.sequence_count), 0);
  return cache;
}

void KvCache::Truncate(int sequence, int length) {
  CHECK(length >= 0 && length <= this->length(sequence));
  lengths_[static_cast<size_t>(sequence)] = length;
}

std::byte* KvCache::Keys(int layer, int sequence) const {
  return memory_.data() + static_cast<uint64_t>(layer) * layer_bytes_ +
         static_cast<uint64_t>(sequence) * sequence_bytes_;
}

std::byte* KvCache::Values(int layer, int sequence) const {
  return Keys(layer, sequence) + values_offset_;
}

}  // namespace stoker
