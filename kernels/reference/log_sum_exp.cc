// What the softmax of a row of logits divides by.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/elementary.h"
#include "kernels/reference/lane_sums.h"
#include "kernels/reference/reference.h"

namespace stoker::reference {

ExpSum LogSumExp(const float* x, int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  float max = kLowest;
  for (int64_t i = 0; i < n; ++i) {
    max = x[i] > max ? x[i] : max;
  }
  max = max + 0.0f;  // -0 to +0
  const float less = max == kLowest ? 0.0f : max;
  LaneSums whole;
  for (int64_t piece = 0; piece * kExpSumPiece < n; ++piece) {
    const float* values = x + piece * kExpSumPiece;
    const int64_t count = std::min(kExpSumPiece, n - piece * kExpSumPiece);
    LaneSums sum;
    for (int64_t i = 0; i < count; ++i) {
      sum.Add(i, Exp(F32x1{values[i] - less}).value);
    }
    whole.Add(piece, sum.Total());
  }
  return {max, whole.Total()};
}

}  // namespace stoker::reference
