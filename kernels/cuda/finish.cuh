// What the kernels that finish queries, keys and latents share: norms by a warp, rotation, and
// writing to the cache.
#pragma once

#include "kernels/cuda/port.cuh"
#include "kernels/device_args.h"

namespace stoker::STOKER_DEVICE_NAMESPACE {

// 1 / sqrt(dot(x, x) / n + epsilon) of x(0) ... x(n - 1), for all lanes of the warp that calls it.
template <typename Values>
__device__ __forceinline__ float RmsScale(Values x, int64_t n, float epsilon) {
  float sum = 0;
  STOKER_UNROLL_BY(4)
  for (int64_t i = static_cast<int64_t>(threadIdx.x % 32); i < n; i += 32) {
    const float value = x(i);
    sum = __fmaf_rn(value, value, sum);
  }
  STOKER_UNROLL
  for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(kAllLanes, sum, half);
  return 1.0f / sqrtf(sum / static_cast<float>(n) + epsilon);
}

// Value i < 2 * rope.pairs of x, rotated as at `position`.
__device__ __forceinline__ float Rotated(const RopeTable& rope, int32_t position, const float* x,
                                         int i) {
  const bool halves = rope.pairing == RopePairing::kHalves;
  const int pair = halves ? i % rope.pairs : i / 2;
  const bool is_first = halves ? i < rope.pairs : i % 2 == 0;
  const float a = x[halves ? pair : 2 * pair];
  const float b = x[halves ? pair + rope.pairs : 2 * pair + 1];
  const float cosine = rope.cosines[int64_t{position} * rope.pairs + pair];
  const float sine = rope.sines[int64_t{position} * rope.pairs + pair];
  return is_first ? __fmaf_rn(a, cosine, -(b * sine)) : __fmaf_rn(a, sine, b * cosine);
}

// The row of all pages that holds a position.
__device__ __forceinline__ int64_t CachedRow(const KvLayer& kv, const RowPlace& place) {
  const int32_t page =
      kv.table[int64_t{place.sequence} * kv.pages_per_sequence + place.position / kPagePositions];
  return int64_t{page} * kPagePositions + place.position % kPagePositions;
}
__device__ __forceinline__ int64_t ElementBytes(const KvLayer& kv) {
  return kv.dtype == Dtype::kF16 ? 2 : 4;
}
// Element i of a cached row.
__device__ __forceinline__ void StoreCached(const KvLayer& kv, std::byte* row, int64_t i,
                                            float value) {
  if (kv.dtype == Dtype::kF16) {
    reinterpret_cast<uint16_t*>(row)[i] = HalfOfFloat(value);
  } else {
    reinterpret_cast<float*>(row)[i] = value;
  }
}

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
