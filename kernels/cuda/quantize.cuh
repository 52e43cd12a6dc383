// Quantizes 256 values that a warp holds to the forms of kernels/ops.h.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/ops.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// Lane l of a warp holds values 8 l to 8 l + 7 of a group of 256.
inline constexpr int kLaneValues = 8;

// The values of a lane from a row of `cols` values at a 16-byte border, group `group` of it; zero
// past the end.
__device__ __forceinline__ void LoadLaneValues(const float* row, int64_t group, int64_t cols,
                                               float (&x)[kLaneValues]) {
  const int64_t first = group * 256 + LaneIndex() * kLaneValues;
  if (first + kLaneValues <= cols) {
    const float4 low = *reinterpret_cast<const float4*>(row + first);
    const float4 high = *reinterpret_cast<const float4*>(row + first + 4);
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    return;
  }
  for (int i = 0; i < kLaneValues; ++i) x[i] = first + i < cols ? row[first + i] : 0.0f;
}

__device__ __forceinline__ void StoreLaneValues(const float (&x)[kLaneValues], int64_t group,
                                                int64_t cols, float* row) {
  const int64_t first = group * 256 + LaneIndex() * kLaneValues;
  if (first + kLaneValues <= cols) {
    *reinterpret_cast<float4*>(row + first) = make_float4(x[0], x[1], x[2], x[3]);
    *reinterpret_cast<float4*>(row + first + 4) = make_float4(x[4], x[5], x[6], x[7]);
    return;
  }
  for (int i = 0; i < kLaneValues; ++i) {
    if (first + i < cols) row[first + i] = x[i];
  }
}

// The largest |x| of a lane as the bits of a float: they order as the values do, and whatever is
// not finite is at or above those of infinity.
__device__ __forceinline__ int LargestBits(const float (&x)[kLaneValues]) {
  int largest = 0;
  for (int i = 0; i < kLaneValues; ++i) {
    const int bits = static_cast<int>(__float_as_uint(x[i]) & 0x7fffffffu);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// One block, whose largest magnitude is known: its scale, and this lane's integers as two words.
__device__ __forceinline__ float QuantizeLane(const float (&x)[kLaneValues], int largest_bits,
                                              uint2& q, int& sum) {
  q = make_uint2(0, 0);
  sum = 0;
  constexpr int kInfinityBits = 0x7f800000;
  if (largest_bits >= kInfinityBits) return __uint_as_float(0x7fc00000u);
  const float largest = __uint_as_float(static_cast<uint32_t>(largest_bits));
  if (largest < 0x1p-120f) return 0;
  const float inverse = 127.0f / largest;
  uint32_t words[2] = {};
  for (int i = 0; i < kLaneValues; ++i) {
    const int value = static_cast<int>(rintf(x[i] * inverse));
    words[i / 4] |= (static_cast<uint32_t>(value) & 255u) << (8 * (i % 4));
    sum += value;
  }
  q = make_uint2(words[0], words[1]);
  return largest / 127.0f;
}

// Quantizes the blocks of a group that has all of its values, or, with kQ8x32, some whole blocks
// of 32 (what is past them must be zeros). A null pointer is a form that is not wanted. All lanes
// of the warp take part.
__device__ __forceinline__ void QuantizeGroup(const float (&x)[kLaneValues], Q8x32Group* to32,
                                              Q8x256Group* to256) {
  const int lane = LaneIndex();
  const int lane_bits = LargestBits(x);
  uint2 q;
  int sum;
  if (to32 != nullptr) {
    int bits = lane_bits;  // of the four lanes that hold a block
    for (int step = 1; step <= 2; step *= 2) {
      const int other = __shfl_xor_sync(kAllLanes, bits, step);
      bits = other > bits ? other : bits;
    }
    const float d = QuantizeLane(x, bits, q, sum);
    reinterpret_cast<uint2*>(to32->q)[lane] = q;
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (lane % 4 == 0) {
      to32->d[lane / 4] = d;
      to32->sums[lane / 4] = sum;
    }
  }
  if (to256 != nullptr) {
    const float d = QuantizeLane(x, __reduce_max_sync(kAllLanes, lane_bits), q, sum);
    reinterpret_cast<uint2*>(to256->q)[lane] = q;
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    if (lane % 2 == 0) to256->sums[lane / 2] = static_cast<int16_t>(sum);
    if (lane == 0) to256->d = d;
    if (lane < 7) reinterpret_cast<uint32_t*>(to256->unused)[lane] = 0;
  }
}

// Groups `group` of row `row` in rows of quantized groups; null stays null.
template <typename Group>
__device__ __forceinline__ Group* GroupOf(std::byte* rows, int64_t cols, int64_t row,
                                          int64_t group) {
  if (rows == nullptr) return nullptr;
  return reinterpret_cast<Group*>(rows) + row * ((cols + 255) / 256) + group;
}

// Quantizes group `group` of row `row`, whose values the warp holds, into rows of `cols` values.
__device__ __forceinline__ void QuantizeInto(const float (&x)[kLaneValues], int64_t row,
                                             int64_t group, int64_t cols, std::byte* q8x32,
                                             std::byte* q8x256) {
  if (q8x32 == nullptr && q8x256 == nullptr) return;
  QuantizeGroup(x, GroupOf<Q8x32Group>(q8x32, cols, row, group),
                GroupOf<Q8x256Group>(q8x256, cols, row, group));
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
