// What the CUDA runtime's error codes mean to who runs this.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace stoker {

// `error` is a cudaError_t other than success; `operation` says what was being done ("kernel
// norm_rows", "copy in of 4096 bytes"). Unavailable when the GPU itself is lost; FailedPrecondition
// when it cannot run this build's kernels; else Internal.
absl::Status CudaFailure(int error, std::string_view operation);

}  // namespace stoker
