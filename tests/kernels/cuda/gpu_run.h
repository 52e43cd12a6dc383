// Runs an operation on the GPU of this machine, where there is one, on memory that both sides see.
#pragma once

#include <cstddef>
#include <string_view>

namespace stoker {

// Whether this build and this machine can run kernels on a GPU.
bool HasGpu();

// Memory for operations: managed by the GPU's runtime where there is a GPU. 64-byte aligned.
std::byte* TakeShared(size_t bytes);
void GiveShared(std::byte* memory);

// Runs the GPU's operation of that name and waits for it; the runtime's error code. Requires
// HasGpu.
int RunOnGpu(std::string_view name, const void* args);

}  // namespace stoker
