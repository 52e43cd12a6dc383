// Where every routed expert lies in the files: what the model finds out and the expert store works
// from.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/expert_id.h"

namespace stoker {

// A run of bytes in a file.
struct ByteRange {
  int file = 0;  // the reader's file index
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

inline constexpr int kExpertPartsMax = 4;

// Experts of one layer. Part p of expert e is the range parts[p] moved by e * stride_bytes[p]
// (merged tensors), all of the same size within a layer.
struct LayerExperts {
  int layer = 0;  // transformer layer
  int expert_count = 0;
  int part_count = 0;
  ByteRange parts[kExpertPartsMax];  // of expert 0
  uint64_t stride_bytes[kExpertPartsMax] = {};
};

// Layers with routed experts only, ascending by layer.
struct ExpertCatalog {
  std::vector<LayerExperts> layers;

  const LayerExperts* Find(int layer) const {
    for (const LayerExperts& l : layers) {
      if (l.layer == layer) return &l;
    }
    return nullptr;
  }
  static uint64_t ExpertBytes(const LayerExperts& l) {
    uint64_t sum = 0;
    for (int p = 0; p < l.part_count; ++p) sum += l.parts[p].bytes;
    return sum;
  }
  uint64_t total_bytes() const {
    uint64_t sum = 0;
    for (const LayerExperts& l : layers)
      sum += ExpertBytes(l) * static_cast<uint64_t>(l.expert_count);
    return sum;
  }
  int64_t expert_count() const {
    int64_t sum = 0;
    for (const LayerExperts& l : layers) sum += l.expert_count;
    return sum;
  }
};

}  // namespace stoker
