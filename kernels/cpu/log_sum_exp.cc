// What the softmax of a row of logits divides by, in registers of lanes.
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"
#include "kernels/elementary.h"

namespace stoker::cpu::STOKER_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();

// A maximum is the same in any order, but for the sign of a zero.
STOKER_INLINE float GreatestOf(const float* x, int64_t n) {
  F32s lane = F32s::Broadcast(kLowest);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    lane = Max(Load(x + i), lane);
  }
  float values[kWidth];
  Store(values, lane);
  float max = kLowest;
  for (const float value : values) {
    max = value > max ? value : max;
  }
  for (; i < n; ++i) {
    max = x[i] > max ? x[i] : max;
  }
  return max + 0.0f;  // -0 to +0
}

// The float sum of exp(x - less) over x[0..n).
STOKER_INLINE float SumOfExp(const float* x, int64_t n, F32s less) {
  F32s lanes[kDotRegisters];
  for (F32s& lane : lanes) {
    lane = F32s::Broadcast(0.0f);
  }
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int s = 0; s < kDotRegisters; ++s) {
      lanes[s] = lanes[s] + Exp(Load(x + i + s * kWidth) - less);
    }
  }
  for (int s = 0; i < n; ++s, i += kWidth) {
    const F32s value = Exp(LoadUpTo(x + i, n - i) - less);
    lanes[s] =
        n - i >= kWidth ? lanes[s] + value : AddPartial(lanes[s], value, static_cast<int>(n - i));
  }
  return FoldLanes(lanes);
}

}  // namespace

ExpSum LogSumExp(const float* x, int64_t n) {
  const float max = GreatestOf(x, n);
  const F32s less = F32s::Broadcast(max == kLowest ? 0.0f : max);
  float sums[kDotLanes] = {};  // of the pieces
  for (int64_t piece = 0; piece * kExpSumPiece < n; ++piece) {
    const int64_t first = piece * kExpSumPiece;
    sums[piece % kDotLanes] += SumOfExp(x + first, Smaller(kExpSumPiece, n - first), less);
  }
  F32s lanes[kDotRegisters];
  for (int s = 0; s < kDotRegisters; ++s) {
    lanes[s] = Load(sums + s * kWidth);
  }
  return {max, FoldLanes(lanes)};
}

}  // namespace stoker::cpu::STOKER_ISA
