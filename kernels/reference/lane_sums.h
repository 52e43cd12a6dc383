// The float dot and the float sum of the exactness contract (kernels/ops.h), in their plainest
// form.
#pragma once

#include <cstdint>

namespace stoker::reference {

class LaneSums {
 public:
  static constexpr int kLanes = 32;

  // Adds a * b as element i. Elements come in ascending order.
  void MultiplyAdd(int64_t i, float a, float b) {
    float& lane = lanes_[i % kLanes];
    lane = __builtin_fmaf(a, b, lane);
  }

  // Adds x as element i.
  void Add(int64_t i, float x) { lanes_[i % kLanes] += x; }

  // Ends the sum: the lanes are folded in half until one is left.
  float Total() {
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) {
        lanes_[l] += lanes_[l + half];
      }
    }
    return lanes_[0];
  }

 private:
  float lanes_[kLanes] = {};
};

}  // namespace stoker::reference
