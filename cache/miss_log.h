// The misses of one step, as many as are worth telling.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/types/span.h"
#include "cache/expert_cache.h"

namespace stoker {

// In order of arrival; when there are more than kCountMax the slowest are kept. Takes its memory
// once.
class MissLog {
 public:
  static constexpr size_t kCountMax = 256;

  MissLog() { records_.reserve(kCountMax); }
  void Clear() { records_.clear(); }
  void Add(const MissRecord& record);
  absl::Span<const MissRecord> records() const { return records_; }

 private:
  std::vector<MissRecord> records_;
};

}  // namespace stoker
