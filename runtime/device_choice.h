// The device that a run asked for, opened, or the reason why it cannot be had.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"
#include "kernels/device_ops.h"
#include "runtime/options.h"

namespace stoker {

// A device with the operations for it. Both null: the processor does everything.
struct ChosenDevice {
  std::unique_ptr<Device> device;
  const DeviceOps* ops = nullptr;
  double memory_rate = 0;  // of a modelled device, by which its work is timed; 0: not known
};

// Opens what valid options ask for. "auto" takes a GPU when there is one that can be used, and
// nothing otherwise. FailedPrecondition saying what is missing: a device asked for by name that
// cannot be had, or options that need one when "auto" finds none.
absl::StatusOr<ChosenDevice> ChooseDevice(const EngineOptions& options);

// The operations for an open device. FailedPrecondition when this build has none.
absl::StatusOr<const DeviceOps*> OpsFor(const Device& device);

// What it is, for the operator: its description, or else its name; "none".
std::string DescribeDevice(const Device* device);

}  // namespace stoker
