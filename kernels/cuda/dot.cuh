// The dot of one weight row of any format with a few activation rows, by a warp.
#pragma once

#include "kernels/cuda/lane_part.cuh"
#include "kernels/cuda/port.cuh"
#include "kernels/formats/bf16.h"
#include "kernels/formats/f16.h"
#include "kernels/formats/f32.h"
#include "kernels/ops.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// The sum of the lanes in a halving tree that ends at `last` lanes apart: with 1 the float dot's 32
// lanes, with 4 the block dot's eight strands of four equal lanes. All lanes get the sum.
template <int kLast>
__device__ __forceinline__ float SumOfLanes(float sum) {
  STOKER_UNROLL
  for (int step = 16; step >= kLast; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  return sum;
}

__device__ __forceinline__ int SumOfParts(int sum) {
  sum += __shfl_xor_sync(kAllLanes, sum, 1);
  return sum + __shfl_xor_sync(kAllLanes, sum, 2);
}

template <typename Format>
inline constexpr bool kIsFloatFormat = Format::kActivation == ActivationKind::kF32;

// Whether rows of a format are read faster from a 16-byte border (the first row's address decides:
// such a format's rows are multiples of 16 bytes).
template <typename Format>
STOKER_INLINE constexpr bool CanBeWide() {
  if constexpr (kIsFloatFormat<Format>) {
    return false;
  } else {
    return LanePart<Format>::kCanBeWide;
  }
}

template <typename Format>
STOKER_INLINE constexpr int64_t RowBytesOf(int64_t cols) {
  return cols / Format::kBlockValues * static_cast<int64_t>(sizeof(typename Format::Block));
}

template <typename Format>
using ActivationGroup =
    std::conditional_t<Format::kActivation == ActivationKind::kQ8x32, Q8x32Group, Q8x256Group>;

// Value i of a row of floats at an even address.
template <typename Format>
__device__ __forceinline__ float LoadFloatWeight(const std::byte* row, int64_t i) {
  const auto* p = reinterpret_cast<const uint8_t*>(row) + i * sizeof(typename Format::Block);
  if constexpr (Format::kDtype == Dtype::kF32) {
    uint32_t word[1];
    LoadWords(p, word);
    return __uint_as_float(word[0]);
  } else if constexpr (Format::kDtype == Dtype::kF16) {
    return LoadScale(p);
  } else {
    return FloatOfBfloat16(static_cast<uint16_t>(LoadPair(p)));
  }
}

template <typename Format, int kColumns>
__device__ __forceinline__ void DotFloatRow(const std::byte* row, int64_t cols,
                                            const std::byte* const (&x)[kColumns], int count,
                                            float (&sums)[kColumns]) {
  // Loads in flight; more beside eight sums would spill on compute capability 8.0.
  [[maybe_unused]] constexpr int kAhead = kColumns > 4 ? 2 : 4;
  STOKER_UNROLL_BY(kAhead)
  for (int64_t i = LaneIndex(); i < cols; i += 32) {
    const float w = LoadFloatWeight<Format>(row, i);
    STOKER_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      if (j < count) {
        sums[j] = __fmaf_rn(w, reinterpret_cast<const float*>(x[j])[i], sums[j]);
      }
    }
  }
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    if (j < count) sums[j] = SumOfLanes<1>(sums[j]);
  }
}

template <typename Format, bool kWide, int kColumns>
__device__ __forceinline__ void DotBlockRow(const std::byte* row, int64_t block_count,
                                            const std::byte* const (&x)[kColumns], int count,
                                            float (&sums)[kColumns]) {
  using Group = ActivationGroup<Format>;
  constexpr int kGroupBlocks = 256 / Format::kBlockValues;
  const auto* blocks = reinterpret_cast<const typename Format::Block*>(row);
  const int strand = LaneIndex() / 4;
  const int part = LaneIndex() % 4;
  for (int64_t first = 0; first < block_count; first += 8) {
    // Strands past the end do the last block once more, to nobody's notice.
    const bool inside = first + strand < block_count;
    const int64_t b = inside ? first + strand : block_count - 1;
    const auto w = LanePart<Format>::template Load<kWide>(blocks[b], part);
    STOKER_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      if (j >= count) continue;
      const Group& group = reinterpret_cast<const Group*>(x[j])[b / kGroupBlocks];
      BlockSums whole = DotPart(w, group, strand, part);
      whole.isum = SumOfParts(whole.isum);
      if constexpr (LanePart<Format>::kHasMinima) whole.msum = SumOfParts(whole.msum);
      if (inside) sums[j] = AddBlock(w, group, strand, whole, sums[j]);
    }
  }
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    if (j < count) sums[j] = SumOfLanes<4>(sums[j]);
  }
}

// sums[j] = dot(row, x[j]) for j < count <= kColumns, in every lane. x are activation rows of
// Format::kActivation at 16-byte borders, in global or in shared memory. kWide (only where
// CanBeWide) promises a row at a 16-byte border. All lanes of the warp take part, with equal
// arguments.
template <typename Format, bool kWide, int kColumns>
__device__ __forceinline__ void DotRow(const std::byte* row, int64_t cols,
                                       const std::byte* const (&x)[kColumns], int count,
                                       float (&sums)[kColumns]) {
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) sums[j] = 0;
  if constexpr (kIsFloatFormat<Format>) {
    DotFloatRow<Format>(row, cols, x, count, sums);
  } else {
    DotBlockRow<Format, kWide>(row, cols / Format::kBlockValues, x, count, sums);
  }
}

// Lane j < count stores its column's sum: to[j * stride].
template <int kColumns>
__device__ __forceinline__ void StoreSums(const float (&sums)[kColumns], int count, float* to,
                                          int64_t stride) {
  const int lane = LaneIndex();
  STOKER_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    if (j < count && lane == j) to[j * stride] = sums[j];
  }
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
