// Work that keeps one link of the machine busy, to measure links alone and beside each other.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/expert_catalog.h"
#include "base/parallel.h"
#include "device/buffer.h"
#include "device/device.h"
#include "io/block_reader.h"
#include "kernels/ops.h"
#include "model/blocks/products.h"
#include "model/weights.h"

namespace stoker {

class Traffic {
 public:
  virtual ~Traffic() = default;
  // Moves on without waiting: takes note of what has ended and starts more of it. Where the calling
  // thread is what works, does one unit of work.
  virtual absl::Status Pump() = 0;
  // Waits for all that is under way.
  virtual absl::Status Drain() = 0;
  uint64_t bytes() const { return bytes_; }  // moved so far
  int64_t units() const { return units_; }   // in so many pieces

 protected:
  void Count(uint64_t bytes) {
    bytes_ += bytes;
    ++units_;
  }

 private:
  uint64_t bytes_ = 0;
  int64_t units_ = 0;
};

struct TrafficTime {
  int64_t warm_ns = 0;   // not counted, so that all is under way
  int64_t least_ns = 0;  // counted
  int64_t most_ns = 0;   // counted, when a link is too slow for kTrafficUnitsMin in the least time
};
// Pieces that a rate is measured over, time allowing.
inline constexpr int64_t kTrafficUnitsMin = 8;

// Runs all of `traffic` at once and returns the bytes per second of each. The first error of any;
// nothing is under way when it returns.
absl::StatusOr<std::vector<double>> MeasureTraffic(absl::Span<Traffic* const> traffic,
                                                   const TrafficTime& time, const Clock& clock);

// The processor computes experts: each unit the next few of those in `weights`, each with `rows`
// rows. Bytes are those of the weights, times rows.
struct HostTrafficOptions {
  const Ops* ops = nullptr;
  ThreadTeam* team = nullptr;
  ExpertShape shape;                    // views without data
  absl::Span<const std::byte> weights;  // room for one expert at least; the values do not matter
  int rows = 1;
};
// Memory that it takes beside the weights.
uint64_t HostTrafficBytes(const HostTrafficOptions& options);
absl::StatusOr<std::unique_ptr<Traffic>> MakeHostTraffic(const HostTrafficOptions& options);
// Bytes of one expert of a shape.
uint64_t ExpertBytes(const ExpertShape& shape);

// Copies of `piece_bytes`, a few under way. Pieces walk through both regions, which hold one at
// least: pinned memory where it is the host's. Within the device a byte counts twice, for it is
// read and written there.
struct CopyTrafficOptions {
  Device* device = nullptr;
  Stream stream = Stream::kCopyIn;  // says the way as well: in, out, and kCompute within the device
  absl::Span<const std::byte> from;
  absl::Span<std::byte> to;
  uint64_t piece_bytes = 0;
};
std::unique_ptr<Traffic> MakeCopyTraffic(const CopyTrafficOptions& options);

// Reads of experts, in a random order by a fixed seed, each part one read.
struct DriveTrafficOptions {
  BlockReader* reader = nullptr;  // with the catalog's files added, and nothing under way
  const ExpertCatalog* experts = nullptr;
  absl::Span<std::byte> target;  // as much is under way as it holds, at most kDriveReadsMax reads
};
inline constexpr size_t kDriveReadsMax = 16;
// Bytes of one place in `target`: the largest read.
uint64_t DriveReadBytes(const BlockReader& reader, const ExpertCatalog& experts);
std::unique_ptr<Traffic> MakeDriveTraffic(const DriveTrafficOptions& options);

}  // namespace stoker
