// Keeps the slowest misses of a step.
#include "cache/miss_log.h"

#include <algorithm>

namespace stoker {

void MissLog::Add(const MissRecord& record) {
  if (records_.size() == kCountMax) {
    const auto fastest = std::min_element(
        records_.begin(), records_.end(),
        [](const MissRecord& a, const MissRecord& b) { return a.read_ns < b.read_ns; });
    if (fastest->read_ns >= record.read_ns) return;
    records_.erase(fastest);
  }
  records_.push_back(record);
}

}  // namespace stoker
