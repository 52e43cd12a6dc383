// Asks the kernel.
#include "runtime/system_time.h"

#include <sys/resource.h>

#include "base/check.h"

namespace stoker {

int64_t SystemTimeNs() {
  rusage usage = {};
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return int64_t{usage.ru_stime.tv_sec} * 1'000'000'000 + int64_t{usage.ru_stime.tv_usec} * 1'000;
}

}  // namespace stoker
