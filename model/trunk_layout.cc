// Merging tensors to runs and giving each its place.
#include "model/trunk_layout.h"

#include <algorithm>
#include <numeric>

namespace stoker {
namespace {

// A gap this small is read through: cheaper than another read.
constexpr uint64_t kGapMax = 64 * 1024;
constexpr uint64_t kConvertedAlignment = 64;

uint64_t AlignDown(uint64_t value, uint64_t alignment) { return value / alignment * alignment; }
uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}

uint64_t ConvertedBytes(const TrunkTensor& tensor) {
  if (tensor.vector != nullptr) {
    return static_cast<uint64_t>(tensor.source->dims[0]) * sizeof(float);
  }
  return tensor.transposed != nullptr ? tensor.transposed->bytes() : 0;
}

}  // namespace

TrunkLayout::TrunkLayout(absl::Span<const TrunkTensor> tensors)
    : raw_at_(tensors.size()), converted_at_(tensors.size()) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const GgufTensor &left = *tensors[a].source, &right = *tensors[b].source;
    return left.file != right.file ? left.file < right.file : left.offset < right.offset;
  });
  for (const size_t i : order) {
    const GgufTensor& source = *tensors[i].source;
    const bool is_near = !runs_.empty() && runs_.back().file == source.file &&
                         source.offset <= runs_.back().offset + runs_.back().bytes + kGapMax;
    if (!is_near) {
      runs_.push_back({.file = source.file, .offset = AlignDown(source.offset, kBlockBytes)});
      runs_.back().arena_at = bytes_;
    }
    Run& run = runs_.back();
    run.wanted = std::max(run.wanted, source.offset + source.bytes - run.offset);
    run.bytes = AlignUp(run.wanted, kBlockBytes);
    raw_at_[i] = run.arena_at + (source.offset - run.offset);
    bytes_ = run.arena_at + run.bytes;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = ConvertedBytes(tensors[i]);
    if (bytes == 0) continue;
    converted_at_[i] = bytes_;
    bytes_ += AlignUp(bytes, kConvertedAlignment);
  }
  bytes_ = AlignUp(bytes_, kBlockBytes);
}

}  // namespace stoker
