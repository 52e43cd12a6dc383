// What every kernel includes: CUDA itself, or its stand-in on the CPU.
//
// Each source of this folder is compiled twice: by nvcc into namespace stoker::cuda, and by the
// C++ compiler into namespace stoker::twin (STOKER_DEVICE_NAMESPACE, from the build). Both must
// give the bits of kernels/reference. What kernels keep to, so that they can:
//   - all code is in the namespace; shared variables are declared by the macros below;
//   - threads that meet (barriers, warp operations) are all there, and none has returned;
//   - a loop that waits for memory to change calls WaitALittle;
//   - nothing is fused or approximated: fma is written out, division and square root are the
//     plain ones, elementary functions those of kernels/elementary.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/formats/half.h"

#ifdef __CUDACC__

#include <cuda_fp16.h>
#include <cuda_runtime.h>

// Before a loop: all its rounds, or so many at a time, side by side.
#define STOKER_UNROLL _Pragma("unroll")
#define STOKER_UNROLL_BY(count) STOKER_PRAGMA(unroll count)
#define STOKER_PRAGMA(text) _Pragma(#text)

// A variable, or an array, that the threads of a block share. Nothing initializes it.
#define STOKER_SHARED(Type, name) __shared__ Type name
#define STOKER_SHARED_ARRAY(Type, name, count) __shared__ Type name[count]
// Type* name: the dynamic_shared_bytes of the launch, 16-byte aligned.
#define STOKER_DYNAMIC_SHARED(Type, name)                            \
  extern __shared__ __align__(16) std::byte stoker_dynamic_shared[]; \
  Type* name = reinterpret_cast<Type*>(stoker_dynamic_shared)

#else

#include "kernels/cuda/twin/stand_in.h"

#define STOKER_UNROLL
#define STOKER_UNROLL_BY(count)

#define STOKER_SHARED(Type, name)        \
  static const char name##_shared_key{}; \
  Type& name =                           \
      *static_cast<Type*>(SharedVariable(&name##_shared_key, #name, sizeof(Type), alignof(Type)))
#define STOKER_SHARED_ARRAY(Type, name, count)                        \
  static const char name##_shared_key{};                              \
  auto& name = *static_cast<std::remove_reference_t<Type>(*)[count]>( \
      SharedVariable(&name##_shared_key, #name, sizeof(Type) * (count), alignof(Type)))
#define STOKER_DYNAMIC_SHARED(Type, name) Type* name = static_cast<Type*>(DynamicShared())

#endif

namespace stoker::STOKER_DEVICE_NAMESPACE {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

#ifdef __CUDACC__

struct LaunchShape {
  const char* kernel = "";  // its name, for messages
  dim3 grid;                // blocks
  dim3 block;               // threads of each
  size_t dynamic_shared_bytes = 0;
};

// Queues a kernel and returns 0, or the runtime's error code. A grid without blocks is nothing to
// do.
template <typename... Parameters>
int LaunchKernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* native_stream,
                 std::type_identity_t<Parameters>... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return 0;
  const auto* function = reinterpret_cast<const void*>(kernel);
  constexpr size_t kBytesUnasked = 48 * 1024;  // more must be asked for, kernel by kernel
  if (shape.dynamic_shared_bytes > kBytesUnasked) {
    const cudaError_t asked =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.dynamic_shared_bytes));
    if (asked != cudaSuccess) return asked;
  }
  void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
  return cudaLaunchKernel(function, shape.grid, shape.block, pointers, shape.dynamic_shared_bytes,
                          static_cast<cudaStream_t>(native_stream));
}

__device__ __forceinline__ int LaneIndex() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) %
                          32);
}

// Gives way while waiting for another thread to write to memory.
__device__ __forceinline__ void WaitALittle() { __nanosleep(40); }

// FloatOfHalf, which is exact, by the hardware's instruction.
__device__ __forceinline__ float WidenHalf(uint16_t half) {
  return __half2float(__ushort_as_half(half));
}

#else

// Runs a kernel, here and now.
template <typename... Parameters>
int LaunchKernel(void (*kernel)(Parameters...), const LaunchShape& shape, void* /*native_stream*/,
                 std::type_identity_t<Parameters>... arguments) {
  auto body = [&] { kernel(arguments...); };
  return RunGrid(
      shape, [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
}

inline void WaitALittle(STOKER_TWIN_SITE) { Pause({file, line}); }

STOKER_INLINE float WidenHalf(uint16_t half) { return FloatOfHalf(half); }

#endif

}  // namespace stoker::STOKER_DEVICE_NAMESPACE
