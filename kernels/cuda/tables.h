// The two compilations of the kernels of this folder: for the GPU, and their twin on the CPU.
#pragma once

#include "kernels/device_ops.h"

namespace stoker::cuda {
extern const DeviceOps kOps;  // only where STOKER_HAS_CUDA is defined
}
namespace stoker::twin {
extern const DeviceOps kOps;
}
