// What stands for CUDA in a build without it.
#include "absl/status/status.h"
#include "device/cuda_device.h"

namespace stoker {

bool IsCudaBuiltIn() { return false; }

int CountCudaDevices() { return 0; }

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions&) {
  return absl::FailedPreconditionError(
      "this build has no support for NVIDIA GPUs: no CUDA toolkit with a working nvcc was found "
      "when "
      "it was configured. Install the toolkit and configure again (cmake -DSTOKER_CUDA=ON says "
      "what "
      "is missing), or use --device cpu");
}

}  // namespace stoker
