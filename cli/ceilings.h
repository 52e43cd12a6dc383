// What this machine could do at best, measured: the rates that bench sets its own beside.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/expert_catalog.h"

namespace stoker {

// Bytes per second at which `thread_count` pinned threads together read memory that no cache holds:
// the median over several passes over a large buffer. ResourceExhausted when there is no memory for
// the buffer.
absl::StatusOr<double> MeasureMemoryBandwidth(int thread_count);

struct DriveBandwidth {
  double bytes_per_second = 0;
  uint64_t read_bytes = 0;   // that it was measured over
  uint64_t block_bytes = 0;  // of one read, on average
  std::string notice;        // why it may not be the drive's rate, or empty
};
// Reads experts of the model's own files in a random order (fixed seed), as the expert store does:
// past the page cache, each part of an expert one read, several reads under way at once. Requires a
// catalog that is not empty.
absl::StatusOr<DriveBandwidth> MeasureDriveBandwidth(absl::Span<const std::string> paths,
                                                     const ExpertCatalog& catalog,
                                                     const std::string& io);

}  // namespace stoker
