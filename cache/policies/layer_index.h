// Which layer of its class a key is of: what policies that look at layers need.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "cache/policy.h"

namespace stoker {

// Layers are numbered as in PolicyShape::layers. 2 bytes a key.
class LayerIndex {
 public:
  explicit LayerIndex(const PolicyShape& shape) : layer_of_key_(shape.key_count, -1) {
    for (size_t l = 0; l < shape.layers.size(); ++l) {
      const PolicyShape::Layer& layer = shape.layers[l];
      for (ExpertKey key = 0; key < layer.expert_count; ++key) {
        layer_of_key_[layer.first_key + key] = static_cast<int16_t>(l);
      }
    }
  }
  int of(ExpertKey key) const {
    DCHECK(layer_of_key_[key] >= 0);
    return layer_of_key_[key];
  }

 private:
  std::vector<int16_t> layer_of_key_;  // -1: of another class
};

}  // namespace stoker
