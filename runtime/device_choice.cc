// From options to an open device.
#include "runtime/device_choice.h"

#include <fmt/format.h>

#include "base/status.h"

namespace stoker {
namespace {

DeviceOptions OptionsOf(const EngineOptions& options) {
  DeviceOptions device = {.index = options.gpu};
  const ModelledGpuOptions& modelled = options.modelled;
  if (modelled.memory_bytes != 0) device.modelled_memory_bytes = modelled.memory_bytes;
  if (modelled.memory_rate != 0) device.rates.memory_bytes_per_second = modelled.memory_rate;
  if (modelled.link_rate != 0) {
    device.rates.copy_in_bytes_per_second = modelled.link_rate;
    device.rates.copy_out_bytes_per_second = modelled.link_rate;
  }
  if (modelled.link_out_rate != 0) device.rates.copy_out_bytes_per_second = modelled.link_out_rate;
  constexpr int64_t kUs = 1'000;
  if (const std::optional<int> us = modelled.link_latency_us) {
    device.rates.copy_in_ns = device.rates.copy_out_ns = *us * kUs;
  }
  if (const std::optional<int> us = modelled.link_out_latency_us) {
    device.rates.copy_out_ns = *us * kUs;
  }
  return device;
}

// An option that only a device can honour, or empty.
std::string_view OptionForDevice(const EngineOptions& options) {
  if (options.vram.has_value()) return "vram";
  if (options.place.has_value()) return "place";
  return options.gpu >= 0 ? "gpu" : "";
}

absl::StatusOr<ChosenDevice> Open(std::string_view kind, const EngineOptions& options) {
  const DeviceOptions device_options = OptionsOf(options);
  ChosenDevice chosen;
  ASSIGN_OR_RETURN(chosen.device, OpenDevice(kind, device_options));
  if (kind == "modelled") chosen.memory_rate = device_options.rates.memory_bytes_per_second;
  ASSIGN_OR_RETURN(chosen.ops, OpsFor(*chosen.device));
  return chosen;
}

}  // namespace

absl::StatusOr<const DeviceOps*> OpsFor(const Device& device) {
  const DeviceOps* const ops = FindDeviceOps(device.kind());
  if (ops != nullptr) return ops;
  return absl::FailedPreconditionError(fmt::format(
      "this build has no kernels for a device of kind \"{}\"\n  try: a build with CUDA, "
      "or device cpu",
      device.kind()));
}

std::string DescribeDevice(const Device* device) {
  if (device == nullptr) return "none";
  const DeviceInfo& info = device->info();
  return info.description.empty() ? info.name : info.description;
}

absl::StatusOr<ChosenDevice> ChooseDevice(const EngineOptions& options) {
  if (options.device == "cpu") return ChosenDevice();
  if (options.device != "auto") return Open(options.device, options);
  if (UsableGpuCount() > 0) return Open("cuda", options);
  const std::string_view option = OptionForDevice(options);
  if (option.empty()) return ChosenDevice();
  // Opening says what is missing.
  const absl::StatusOr<ChosenDevice> opened = Open("cuda", options);
  const std::string why =
      opened.ok() ? std::string("none is usable") : std::string(MessageOf(opened.status()));
  return absl::FailedPreconditionError(
      fmt::format("{} is given, but there is no GPU to use it for: {}", option, why));
}

}  // namespace stoker
