// How long the kernel has worked for this process: what faults, reads and wake-ups cost.
#pragma once

#include <cstdint>

namespace stoker {

// Nanoseconds of system CPU time of all threads of this process since it began. Never goes back; in
// steps as fine as the kernel counts.
int64_t SystemTimeNs();

}  // namespace stoker
