// Names one routed expert of a model.
#pragma once

#include <cstdint>

namespace stoker {

struct ExpertId {
  int32_t layer = 0;   // transformer layer, counted from 0 over all layers, dense ones included
  int32_t expert = 0;  // index within the layer
  friend bool operator==(const ExpertId&, const ExpertId&) = default;
};

}  // namespace stoker
