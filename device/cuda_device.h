// The NVIDIA GPUs of this machine; in a build without CUDA, why there are none.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "device/device.h"

namespace stoker {

bool IsCudaBuiltIn();
// Those that the driver shows to this process and that are new enough; 0 without a driver.
int CountCudaDevices();
// The GPU options.index, or the one with the most free memory. FailedPrecondition saying what is
// missing; InvalidArgument for an index that there is not.
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions& options);

}  // namespace stoker
