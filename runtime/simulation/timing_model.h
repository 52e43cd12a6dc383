// How long a step takes, given what was where: the simulator's arithmetic of drive and compute.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/trace/trace.h"

namespace stoker {

// Per layer with routed experts, everything else of the step shared out among them:
//
//     time = layer + max(experts / host, drive + last / host)
//     drive = latency + read / rate, of what is missing; no term of it without a miss
//
// All that is missing is read at once; residents are computed meanwhile, each arriving expert as it
// comes; so the longer of the two paths counts, and after the last arrival one expert is left to
// compute. `experts` are the bytes of all that the layer uses.
struct TimingModel {
  struct Value {
    enum class Source : uint8_t { kAssumed, kTrace, kGiven };
    double value = 0;
    Source source = Source::kAssumed;
    bool is_given() const { return source == Source::kGiven; }
  };
  Value drive_rate = {3.5e9};      // bytes a second; a mid-range NVMe drive
  Value drive_latency_ns = {1e5};  // of a read of an expert
  Value expert_rate = {2e10};      // bytes of experts computed a second; two channels of DDR4
  Value layer_ns = {1e5};          // the rest of a step, per layer
  // With VRAM. The device and both ways of its link work beside the processor and the drive.
  Value copy_in_rate = {2.4e10};      // bytes a second to the device; PCIe 4.0 x16
  Value copy_out_rate = {2.4e10};     // and from it
  Value copy_latency_ns = {8e3};      // of a copy
  Value device_rate = {9e11};         // bytes of experts that the device computes a second
  Value device_latency_ns = {1.1e4};  // of a group of experts there: its tables, then its launch

  struct LayerWork {
    uint64_t expert_bytes = 0;  // of all that the layer uses
    uint64_t read_bytes = 0;
    uint64_t last_bytes = 0;  // of one that was read; 0: none was
  };
  int64_t DriveNs(uint64_t read_bytes) const;
  int64_t ExpertNs(uint64_t bytes) const;
  int64_t DeviceNs(uint64_t bytes) const;  // of one group
  int64_t LayerNs(const LayerWork& work) const;
};

// What the user says of the machine; unset: by the trace, else assumed.
struct TimingOptions {
  std::optional<double> drive_rate;
  std::optional<double> drive_latency_ns;
  std::optional<double> expert_rate;
  std::optional<double> layer_ns;
  std::optional<double> copy_in_rate;
  std::optional<double> copy_out_rate;
  std::optional<double> copy_latency_ns;
  std::optional<double> device_rate;
  std::optional<double> device_latency_ns;
};
// From the steps of the trace that only decode, where they have times; of the device and its link
// from what the run measured when it began.
TimingModel FitTiming(const Trace& trace, const TimingOptions& options);

// "drive 3.50 GB/s (assumed), ...": each value with where it comes from.
std::string FormatTiming(const TimingModel& timing);
// The same of what VRAM adds.
std::string FormatDeviceTiming(const TimingModel& timing);

}  // namespace stoker
