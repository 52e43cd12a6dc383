// The kinds of devices.
#include <fmt/format.h>

#include <string>

#include "device/cuda_device.h"
#include "device/device.h"
#include "device/modelled_device.h"

namespace stoker {
namespace {

absl::StatusOr<std::unique_ptr<Device>> OpenModelled(const DeviceOptions& options) {
  auto device = MakeModelledDevice(options);
  if (!device.ok()) return device.status();
  return *std::move(device);
}

constexpr DeviceRow kDevices[] = {
    {"cuda", "an NVIDIA GPU", IsCudaBuiltIn, OpenCudaDevice},
    {"modelled", "a GPU of set speed that is not there: its kernels run on the CPU",
     [] { return true; }, OpenModelled},
};

}  // namespace

absl::Span<const DeviceRow> Devices() { return kDevices; }

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(std::string_view kind,
                                                   const DeviceOptions& options) {
  std::string known;
  for (const DeviceRow& row : kDevices) {
    if (row.name == kind) return row.open(options);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  return absl::InvalidArgumentError(
      fmt::format("there is no kind of device '{}'; the kinds are {}", kind, known));
}

int UsableGpuCount() { return CountCudaDevices(); }

}  // namespace stoker
