// Which layers are in VRAM for good, and where each part of their experts lies there.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/expert_layout.h"
#include "cache/expert_provider.h"
#include "cache/tier.h"
#include "device/device.h"

namespace stoker {

// A layer is looked at when it is asked for, until it is resident; from then on it is for good. One
// thread; allocates nothing after creation.
class ResidentLayers {
 public:
  // All must outlive this object.
  ResidentLayers(const ExpertLayout& layout, const Tier& vram, Device& device)
      : layout_(layout),
        vram_(vram),
        device_(device),
        layers_(layout.layers().size()),
        parts_(static_cast<size_t>(layout.key_count()) * kExpertPartsMax) {}

  // Without parts while the layer is not resident.
  ResidentLayer Find(int layer_index) {
    ResidentLayer& layer = layers_[static_cast<size_t>(layer_index)];
    if (layer.parts == nullptr && vram_.HoldsForGood(layer_index)) Settle(layer_index, layer);
    return layer;
  }

 private:
  void Settle(int layer_index, ResidentLayer& resident);

  const ExpertLayout& layout_;
  const Tier& vram_;
  Device& device_;
  std::vector<ResidentLayer> layers_;    // by layer index
  std::vector<const std::byte*> parts_;  // by key, kExpertPartsMax each
};

}  // namespace stoker
