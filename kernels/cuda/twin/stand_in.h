// What cuda_runtime.h is to a kernel, for its twin: the same names, on the machine of machine.h.
//
// Only what kernels use is here. `__shared__` is not: shared variables are declared by the macros
// of kernels/cuda/port.cuh.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/twin/machine.h"
#include "kernels/formats/half.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

// Where the caller stands, for messages.
#define STOKER_TWIN_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace stoker::twin {

struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads(STOKER_TWIN_SITE) { SyncThreads({file, line}); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, STOKER_TWIN_SITE) {
  MeetWarp(WarpOp::kSync, mask, 0, 0, {file, line});
}

inline constexpr int warpSize = 32;
inline int LaneIndex() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) %
                          32);
}

// Shuffles within groups of `width` lanes, a power of two.
template <typename T>
T Shuffle(uint32_t mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const uint64_t taken = MeetWarp(WarpOp::kShuffle, mask, std::bit_cast<Bits>(value), source, site);
  return std::bit_cast<T>(static_cast<Bits>(taken));
}
template <typename T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, STOKER_TWIN_SITE) {
  const int base = LaneIndex() & ~(width - 1);
  return Shuffle(mask, value, base + (source & (width - 1)), {file, line});
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int width = 32, STOKER_TWIN_SITE) {
  const int lane = LaneIndex();
  const int source = lane ^ lane_mask;
  const int group_end = (lane & ~(width - 1)) + width;
  return Shuffle(mask, value, source < group_end ? source : lane, {file, line});
}
template <typename T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32, STOKER_TWIN_SITE) {
  const int lane = LaneIndex();
  const bool inside = (lane & (width - 1)) + static_cast<int>(delta) < width;
  return Shuffle(mask, value, inside ? lane + static_cast<int>(delta) : lane, {file, line});
}
template <typename T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32, STOKER_TWIN_SITE) {
  const int lane = LaneIndex();
  const bool inside = (lane & (width - 1)) >= static_cast<int>(delta);
  return Shuffle(mask, value, inside ? lane - static_cast<int>(delta) : lane, {file, line});
}

inline uint32_t __ballot_sync(uint32_t mask, int predicate, STOKER_TWIN_SITE) {
  return static_cast<uint32_t>(
      MeetWarp(WarpOp::kBallot, mask, predicate != 0 ? 1 : 0, 0, {file, line}));
}
inline int __any_sync(uint32_t mask, int predicate, STOKER_TWIN_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0 ? 1 : 0;
}
inline int __all_sync(uint32_t mask, int predicate, STOKER_TWIN_SITE) {
  return __ballot_sync(mask, predicate, file, line) == mask ? 1 : 0;
}

inline int Reduce(WarpOp op, uint32_t mask, int value, Site site) {
  return static_cast<int>(
      static_cast<uint32_t>(MeetWarp(op, mask, static_cast<uint32_t>(value), 0, site)));
}
inline int __reduce_add_sync(uint32_t mask, int value, STOKER_TWIN_SITE) {
  return Reduce(WarpOp::kReduceAdd, mask, value, {file, line});
}
inline unsigned __reduce_add_sync(uint32_t mask, unsigned value, STOKER_TWIN_SITE) {
  return static_cast<unsigned>(
      Reduce(WarpOp::kReduceAdd, mask, static_cast<int>(value), {file, line}));
}
inline int __reduce_min_sync(uint32_t mask, int value, STOKER_TWIN_SITE) {
  return Reduce(WarpOp::kReduceMin, mask, value, {file, line});
}
inline int __reduce_max_sync(uint32_t mask, int value, STOKER_TWIN_SITE) {
  return Reduce(WarpOp::kReduceMax, mask, value, {file, line});
}

// c + the sum of four products of bytes.
inline int __dp4a(int a, int b, int c) {
  auto sum = static_cast<uint32_t>(c);
  for (int i = 0; i < 32; i += 8) {
    sum += static_cast<uint32_t>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
  }
  return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += ((a >> i) & 255u) * ((b >> i) & 255u);
  return c;
}

// Byte i of the result is byte (selector >> 4 i) & 7 of the eight of a (0 to 3) and b (4 to 7).
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = (uint64_t{b} << 32) | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned from = (selector >> (4 * i)) & 7;
    result |= static_cast<unsigned>((bytes >> (8 * from)) & 255) << (8 * i);
  }
  return result;
}
// The low word of (high:low) >> (shift % 32).
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((uint64_t{high} << 32) | low) >> (shift & 31));
}

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }

template <typename T>
T __ldg(const T* p) {
  return *p;
}

// One thread runs at a time, so plain accesses are atomic and in order.
inline void __threadfence() {}
inline void __threadfence_block() {}
template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = before > value ? before : value;
  return before;
}
template <typename T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = value;
  return before;
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T before = *at;
  if (before == expected) *at = value;
  return before;
}

[[noreturn]] inline void __trap() { __builtin_trap(); }

}  // namespace stoker::twin
