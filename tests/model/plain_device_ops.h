// The operations of a device in plain loops over the host's kernels: what a modelled device can run
// where a test is about what is queued, and not about how it is computed.
#pragma once

#include "kernels/device_ops.h"

namespace stoker {

// Gives the bits of the device's kernels, at the speed of the host's. Allocates on first use only.
extern const DeviceOps kPlainDeviceOps;

}  // namespace stoker
