// Lays experts out in slots: positions, size classes, aligned supersets.
#include "cache/expert_layout.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/check.h"

namespace stoker {
namespace {

uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Room for the aligned superset of any expert's part (see ExpertLayout).
uint64_t SupersetBytesMax(const ExpertLayout::Part& part) {
  const uint64_t congruence = std::gcd(part.stride_bytes, static_cast<uint64_t>(part.alignment));
  const uint64_t skip_max = part.alignment - congruence + part.range.offset % congruence;
  return RoundUp(skip_max + part.range.bytes, part.alignment);
}

}  // namespace

std::vector<size_t> FileAlignments(const ExpertCatalog& catalog, const BlockReader& reader) {
  int file_count = 0;
  for (const LayerExperts& layer : catalog.layers) {
    for (int p = 0; p < layer.part_count; ++p) {
      file_count = std::max(file_count, layer.parts[p].file + 1);
    }
  }
  std::vector<size_t> alignments;
  for (int file = 0; file < file_count; ++file) alignments.push_back(reader.alignment(file));
  return alignments;
}

ExpertLayout::ExpertLayout(const ExpertCatalog& catalog, absl::Span<const size_t> alignments) {
  for (const size_t alignment : alignments) {
    CHECK(std::has_single_bit(alignment));
    slot_alignment_ = std::max(slot_alignment_, alignment);
  }
  layers_.reserve(catalog.layers.size());
  layer_index_of_key_.reserve(catalog.expert_count());
  for (const LayerExperts& experts : catalog.layers) AddLayer(experts, alignments);
  SortIntoClasses();
}

void ExpertLayout::AddLayer(const LayerExperts& experts, absl::Span<const size_t> alignments) {
  CHECK(experts.part_count > 0 && experts.part_count <= kExpertPartsMax);
  CHECK(experts.expert_count > 0);
  CHECK(experts.layer >= static_cast<int>(layer_index_.size()));
  layer_index_.resize(experts.layer + 1, -1);
  layer_index_[experts.layer] = static_cast<int32_t>(layers_.size());

  Layer layer = {.layer = experts.layer,
                 .first_key = key_count(),
                 .expert_count = experts.expert_count,
                 .part_count = experts.part_count,
                 .expert_bytes = ExpertCatalog::ExpertBytes(experts)};
  for (int p = 0; p < experts.part_count; ++p) {
    const ByteRange& range = experts.parts[p];
    CHECK(range.file >= 0 && range.file < static_cast<int>(alignments.size()) && range.bytes > 0);
    Part& part = layer.parts[p];
    part.range = range;
    part.stride_bytes = experts.stride_bytes[p];
    part.alignment = alignments[range.file];
    part.position = RoundUp(layer.slot_bytes, std::max(part.alignment, kPartAlignment));
    layer.slot_bytes = part.position + SupersetBytesMax(part);
  }
  layer.slot_bytes = RoundUp(layer.slot_bytes, slot_alignment_);
  layer_index_of_key_.resize(key_count() + experts.expert_count,
                             static_cast<int32_t>(layers_.size()));
  expert_count_max_ = std::max(expert_count_max_, experts.expert_count);
  layers_.push_back(layer);
}

void ExpertLayout::SortIntoClasses() {
  std::vector<Layer*> by_size;
  for (Layer& layer : layers_) by_size.push_back(&layer);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const Layer* a, const Layer* b) { return a->slot_bytes > b->slot_bytes; });
  for (Layer* layer : by_size) {
    const bool is_near = !classes_.empty() && (classes_.back().slot_bytes - layer->slot_bytes) <
                                                  classes_.back().slot_bytes / kClassMerge;
    if (!is_near) classes_.push_back({.slot_bytes = layer->slot_bytes});
    SizeClass& size_class = classes_.back();
    size_class.expert_bytes = std::max(size_class.expert_bytes, layer->expert_bytes);
    size_class.expert_count += layer->expert_count;
    ++size_class.layer_count;
    layer->size_class = static_cast<int>(classes_.size()) - 1;
  }
}

int ExpertLayout::layer_index(int layer) const {
  CHECK(layer >= 0 && layer < static_cast<int>(layer_index_.size()));
  CHECK(layer_index_[layer] >= 0);
  return layer_index_[layer];
}

ExpertLayout::PartRead ExpertLayout::Read(ExpertKey key, int part) const {
  const Layer& layer = layer_of(key);
  const Part& place = layer.parts[part];
  const uint64_t expert = static_cast<uint64_t>(key - layer.first_key);
  const AlignedRange cover = CoverAligned(place.range.offset + expert * place.stride_bytes,
                                          place.range.bytes, place.alignment);
  return {.file = place.range.file,
          .read_offset = cover.offset,
          .read_bytes = cover.bytes,
          .position = place.position,
          .skip = cover.skip,
          .bytes = place.range.bytes};
}

}  // namespace stoker
