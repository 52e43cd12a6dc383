// Codes sorted by what can be done about them.
#include "device/cuda_errors.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <string>

namespace stoker {

absl::Status CudaFailure(int error, std::string_view operation) {
  const auto code = static_cast<cudaError_t>(error);
  const std::string what = fmt::format("GPU: {} failed with {} ({})", operation,
                                       cudaGetErrorName(code), cudaGetErrorString(code));
  switch (code) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorHardwareStackError:
    case cudaErrorSystemNotReady:
    case cudaErrorUnknown:
      return absl::UnavailableError(fmt::format(
          "{}; the GPU is lost to this process: it fell off the bus, its memory or link failed, or "
          "another process holds it alone. The kernel's log says which (dmesg, lines with NVRM and "
          "Xid); start again, or use --device cpu",
          what));
    case cudaErrorLaunchFailure:
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchTimeout:
      return absl::InternalError(
          fmt::format("{}; a kernel was stopped and the GPU is lost to this process, likely by a "
                      "mistake in the "
                      "kernel. Start again with CUDA_LAUNCH_BLOCKING=1 to learn which one, or with "
                      "--device cpu",
                      what));
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return absl::FailedPreconditionError(
          fmt::format("{}; this build has no kernels for this GPU. Build for it (cmake "
                      "-DSTOKER_CUDA_ARCHITECTURES=native), update the driver, or use --device cpu",
                      what));
    default:
      return absl::InternalError(fmt::format(
          "{}; likely a mistake in this program or a driver that does not fit it. Start "
          "again, or use --device cpu",
          what));
  }
}

}  // namespace stoker
