// Which experts in RAM the host computes and which are copied to the device.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace stoker {

// Where experts are computed. Those in VRAM always by the device.
enum class PlaceRule : uint8_t {
  kAuto,  // those in RAM by the host or, after a copy, by the device, so that both end together
  kGpu,   // all by the device; what comes from a file is copied on
  kCpu,   // those in RAM, and what comes from a file, by the host
  kCopy,  // those in RAM by the device after a copy; what comes from a file by the host
};

// What the machine does with experts, measured: bytes of weights per second. A copy to the device
// reads the memory that the host computes from, so each is measured beside the other too. 0: not
// known.
struct LinkRates {
  double host = 0;      // computed by the host, for one row
  double host_row = 0;  // the same times rows, when there are many: bound by arithmetic
  double copy_in = 0;   // host to device
  double copy_out = 0;  // device to host
  double host_beside_copy = 0;
  double copy_beside_host = 0;
  double device = 0;  // computed by the device, for one row
  double drive = 0;   // read from files
};

}  // namespace stoker
