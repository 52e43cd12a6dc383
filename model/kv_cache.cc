// One buffer, cut by layer; on the host then by sequence, on a device by page.
#include "model/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"

namespace stoker {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kDeviceAlignment = 256;

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

struct Shape {
  int64_t key_width = 0;    // elements per position
  int64_t value_width = 0;  // 0: values are the keys' rows
  uint64_t key_bytes = 0;   // of one layer's sequence; on a device, of all pages of a layer
  uint64_t value_bytes = 0;
  int pages_per_sequence = 0;
  uint64_t table_bytes = 0;
};

Shape ShapeOf(const ModelConfig& config, const KvCache::Options& options, bool on_device) {
  Shape shape;
  if (config.attention == AttentionKind::kLatent) {
    shape.key_width = config.kv_rank + config.rope.dims;
  } else {
    shape.key_width = int64_t{config.kv_head_count} * config.key_dim;
    shape.value_width = int64_t{config.kv_head_count} * config.value_dim;
  }
  auto positions = static_cast<uint64_t>(options.context);
  if (on_device) {
    shape.pages_per_sequence = (options.context + kPagePositions - 1) / kPagePositions;
    const uint64_t page_count = static_cast<uint64_t>(shape.pages_per_sequence) *
                                static_cast<uint64_t>(options.sequence_count);
    positions = page_count * kPagePositions;
    shape.table_bytes = AlignUp(page_count * sizeof(int32_t), kDeviceAlignment);
  }
  const auto bytes = [&](int64_t width) {
    return AlignUp(RowBytes(options.dtype, width) * positions,
                   on_device ? kDeviceAlignment : kAlignment);
  };
  shape.key_bytes = bytes(shape.key_width);
  shape.value_bytes = bytes(shape.value_width);
  return shape;
}

}  // namespace

uint64_t KvCache::PlanBytes(const ModelConfig& config, const Options& options, bool on_device) {
  const Shape shape = ShapeOf(config, options, on_device);
  const uint64_t layer_bytes = shape.key_bytes + shape.value_bytes;
  const auto layer_count =
      static_cast<uint64_t>(options.layer_count > 0 ? options.layer_count : config.layer_count);
  if (on_device) return layer_bytes * layer_count + shape.table_bytes;
  return layer_bytes * layer_count * static_cast<uint64_t>(options.sequence_count);
}

absl::StatusOr<KvCache> KvCache::Create(const ModelConfig& config, const Options& options) {
  CHECK(options.dtype == Dtype::kF16 || options.dtype == Dtype::kF32);
  CHECK(options.sequence_count >= 1 && options.context >= 1);
  const bool on_device = options.device != nullptr;
  const Shape shape = ShapeOf(config, options, on_device);
  const uint64_t bytes = PlanBytes(config, options, on_device);
  const auto failure = [&](const absl::Status& status) {
    return WithContext(status,
                       fmt::format("taking {} for the attention cache of {} sequence(s) of {} "
                                   "positions (a shorter context takes less)",
                                   FormatBytes(bytes), options.sequence_count, options.context));
  };
  KvCache cache;
  cache.options_ = options;
  cache.key_stride_ = shape.key_width;
  cache.value_stride_ = shape.value_width == 0 ? shape.key_width : shape.value_width;
  cache.values_offset_ = shape.value_width == 0 ? 0 : shape.key_bytes;
  cache.lengths_.assign(static_cast<size_t>(options.sequence_count), 0);
  cache.sequence_bytes_ = shape.key_bytes + shape.value_bytes;
  if (!on_device) {
    cache.layer_bytes_ = cache.sequence_bytes_ * static_cast<uint64_t>(options.sequence_count);
    absl::StatusOr<HostBuffer> memory = HostBuffer::Create(bytes);
    if (!memory.ok()) return failure(memory.status());
    cache.memory_ = *std::move(memory);
    return cache;
  }
  absl::StatusOr<DeviceBuffer> pages = options.device->Take(bytes);
  if (!pages.ok()) return failure(pages.status());
  cache.pages_ = *std::move(pages);
  cache.layer_bytes_ = cache.sequence_bytes_;
  cache.device_table_ = cache.pages_.data() + bytes - shape.table_bytes;
  cache.pages_per_sequence_ = shape.pages_per_sequence;
  const int page_count = shape.pages_per_sequence * options.sequence_count;
  cache.table_.assign(static_cast<size_t>(page_count), 0);
  cache.page_counts_.assign(static_cast<size_t>(options.sequence_count), 0);
  for (int page = page_count - 1; page >= 0; --page) cache.free_pages_.push_back(page);
  return cache;
}

void KvCache::Truncate(int sequence, int length) {
  CHECK(length >= 0 && length <= this->length(sequence));
  lengths_[static_cast<size_t>(sequence)] = length;
  if (options_.device == nullptr) return;
  int& taken = page_counts_[static_cast<size_t>(sequence)];
  const int kept = (length + kPagePositions - 1) / kPagePositions;
  const int32_t* pages = table_.data() + int64_t{sequence} * pages_per_sequence_;
  // A page that is given back stays named in the table: nothing reads past a sequence's length.
  while (taken > kept) free_pages_.push_back(pages[--taken]);
}

void KvCache::Reserve(int sequence, int length) {
  CHECK(options_.device != nullptr && length <= options_.context);
  int& taken = page_counts_[static_cast<size_t>(sequence)];
  const int wanted = (length + kPagePositions - 1) / kPagePositions;
  int32_t* pages = table_.data() + int64_t{sequence} * pages_per_sequence_;
  while (taken < wanted) {
    CHECK(!free_pages_.empty());
    pages[taken++] = free_pages_.back();
    free_pages_.pop_back();
    table_changed_ = true;
  }
}

void KvCache::SendTable(Stream stream) {
  if (!table_changed_) return;
  table_changed_ = false;
  options_.device->CopyIn(stream, device_table_, reinterpret_cast<const std::byte*>(table_.data()),
                          table_.size() * sizeof(int32_t));
}

KvLayer KvCache::Layer(int layer) const {
  std::byte* keys = pages_.data() + static_cast<uint64_t>(layer) * layer_bytes_;
  return {.keys = keys,
          .values = keys + values_offset_,
          .key_stride = key_stride_,
          .value_stride = value_stride_,
          .dtype = options_.dtype,
          .table = reinterpret_cast<const int32_t*>(device_table_),
          .pages_per_sequence = pages_per_sequence_};
}

std::byte* KvCache::Keys(int layer, int sequence) const {
  return memory_.data() + static_cast<uint64_t>(layer) * layer_bytes_ +
         static_cast<uint64_t>(sequence) * sequence_bytes_;
}

std::byte* KvCache::Values(int layer, int sequence) const {
  return Keys(layer, sequence) + values_offset_;
}

}  // namespace stoker
