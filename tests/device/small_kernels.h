// Kernels that need no compiler for GPUs: what a runtime call can do on a stream.
#pragma once

#include <cstddef>
#include <cstring>

#include "device/device.h"

#ifdef STOKER_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

namespace stoker {

struct Fill {
  static constexpr std::string_view kName = "fill";
  std::byte* data = nullptr;
  size_t bytes = 0;
  int value = 0;

  int Run([[maybe_unused]] void* native_stream) const {
#ifdef STOKER_HAS_CUDA
    if (native_stream != nullptr) {
      return cudaMemsetAsync(data, value, bytes, static_cast<cudaStream_t>(native_stream));
    }
#endif
    std::memset(data, value, bytes);
    return 0;
  }
};

struct Duplicate {
  static constexpr std::string_view kName = "duplicate";
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t bytes = 0;

  int Run([[maybe_unused]] void* native_stream) const {
#ifdef STOKER_HAS_CUDA
    if (native_stream != nullptr) {
      return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                             static_cast<cudaStream_t>(native_stream));
    }
#endif
    std::memcpy(to, from, bytes);
    return 0;
  }
};

// Queues a kernel that is its own arguments.
template <typename Kernel>
void Enqueue(Device& device, Stream stream, const Kernel& kernel, uint64_t touched_bytes = 0) {
  device.Launch(stream, {.name = Kernel::kName,
                         .run =
                             [](const void* args, void* native_stream) {
                               return static_cast<const Kernel*>(args)->Run(native_stream);
                             },
                         .args = &kernel,
                         .args_bytes = sizeof(kernel),
                         .touched_bytes = touched_bytes});
}

}  // namespace stoker
