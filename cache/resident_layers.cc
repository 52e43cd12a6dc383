// Writes down where a layer's experts are, once all copies that bring them have come.
#include "cache/resident_layers.h"

#include <algorithm>

namespace stoker {

void ResidentLayers::Settle(int layer_index, ResidentLayer& resident) {
  const ExpertLayout::Layer& layer = layout_.layers()[layer_index];
  DeviceEvent last;
  for (int e = 0; e < layer.expert_count; ++e) {
    const DeviceEvent ready = vram_.ready(vram_.Find(layer.first_key + e));
    if (!device_.IsDone(ready)) return;
    if (ready.sequence > last.sequence) last = ready;
  }
  const size_t first = static_cast<size_t>(layer.first_key) * kExpertPartsMax;
  for (int e = 0; e < layer.expert_count; ++e) {
    std::copy_n(vram_.parts(vram_.Find(layer.first_key + e)), layer.part_count,
                parts_.data() + first + static_cast<size_t>(e) * kExpertPartsMax);
  }
  resident = {.parts = parts_.data() + first, .since = last};
}

}  // namespace stoker
