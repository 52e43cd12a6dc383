// Where each expert's parts lie in a slot, and which aligned reads bring them there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/expert_catalog.h"
#include "base/expert_id.h"
#include "cache/policy.h"
#include "io/block_reader.h"

namespace stoker {

// The catalog, laid out: experts numbered by key, layers sorted into size classes, parts given
// places. Pure arithmetic over the catalog and the files' alignments; the plan made before memory
// is taken and the store that takes it build the same one.
//
// A part's read is the aligned superset of its bytes. With offsets o + e * s, all of them congruent
// to o modulo g = gcd(s, alignment), the bytes start at most alignment - g + o mod g into the
// superset; so a part is given room for that plus its bytes, rounded up. Where o and s are aligned
// this is the part's size, rounded.
class ExpertLayout {
 public:
  // Every part starts at a multiple of this in its slot, whatever the files ask for, so that loads
  // of an aligned part do not straddle cache lines.
  static constexpr size_t kPartAlignment = 64;

  // A class is the layers whose slots are nearly equal: within 1 / kClassMerge of the largest.
  static constexpr uint64_t kClassMerge = 16;

  struct SizeClass {
    uint64_t expert_bytes = 0;  // the largest expert's own
    uint64_t slot_bytes = 0;    // a multiple of slot_alignment()
    int64_t expert_count = 0;
    int layer_count = 0;
  };
  struct Part {
    ByteRange range;  // of expert 0
    uint64_t stride_bytes = 0;
    size_t alignment = 1;  // of the file
    size_t position = 0;   // in the slot
  };
  struct Layer {
    int layer = 0;  // transformer layer
    int size_class = 0;
    ExpertKey first_key = 0;
    int expert_count = 0;
    int part_count = 0;
    Part parts[kExpertPartsMax] = {};
    uint64_t expert_bytes = 0;
    uint64_t slot_bytes = 0;  // needed; the class's may be larger
  };
  // One aligned read: `read_bytes` from `read_offset` of the file to `position` of the slot; the
  // part's own `bytes` start `skip` bytes in.
  struct PartRead {
    int file = 0;
    uint64_t read_offset = 0;
    size_t read_bytes = 0;
    size_t position = 0;
    size_t skip = 0;
    size_t bytes = 0;
  };

  // `alignments` by file number. Requires a catalog whose layers ascend and whose files all have an
  // alignment, each a power of two.
  ExpertLayout(const ExpertCatalog& catalog, absl::Span<const size_t> alignments);

  ExpertKey key_count() const { return static_cast<ExpertKey>(layer_index_of_key_.size()); }
  absl::Span<const SizeClass> classes() const { return classes_; }
  absl::Span<const Layer> layers() const { return layers_; }
  size_t slot_alignment() const { return slot_alignment_; }
  int expert_count_max() const { return expert_count_max_; }  // of a layer

  // Requires that the transformer layer has routed experts.
  int layer_index(int layer) const;
  int layer_index_of(ExpertKey key) const { return layer_index_of_key_[key]; }
  const Layer& layer_of(ExpertKey key) const { return layers_[layer_index_of_key_[key]]; }
  ExpertId id(ExpertKey key) const {
    const Layer& layer = layer_of(key);
    return {layer.layer, key - layer.first_key};
  }
  PartRead Read(ExpertKey key, int part) const;

 private:
  void AddLayer(const LayerExperts& experts, absl::Span<const size_t> alignments);
  void SortIntoClasses();

  std::vector<Layer> layers_;
  std::vector<SizeClass> classes_;           // largest slots first
  std::vector<int32_t> layer_index_of_key_;  // by key
  std::vector<int32_t> layer_index_;         // by transformer layer; -1: no routed experts
  size_t slot_alignment_ = kPartAlignment;
  int expert_count_max_ = 0;
};

// The alignments of the files that a catalog names, as the reader gives them.
std::vector<size_t> FileAlignments(const ExpertCatalog& catalog, const BlockReader& reader);

}  // namespace stoker
