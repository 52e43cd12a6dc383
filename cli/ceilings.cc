// What this machine could do at best, measured: the rates that bench sets its own beside.
#include "cli/ceilings.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/clock.h"
#include "base/parallel.h"
#include "base/status.h"
#include "device/buffer.h"
#include "device/topology.h"
#include "io/block_reader.h"

namespace stoker {
namespace {

// Several times the largest last-level caches in use, so that each pass comes from memory.
constexpr uint64_t kMemoryTestBytes = uint64_t{512} << 20;
constexpr int kMemoryPasses = 7;
constexpr int64_t kMemoryGrainBytes = 1 << 20;

constexpr uint64_t kDriveTestBytes = uint64_t{1} << 30;
constexpr int kDriveReadsInFlight = 16;  // whole-expert reads saturate a drive from about 4
constexpr uint64_t kDriveSeed = 1;

// Eight independent sums keep the loads ahead of the adds, so that memory is what limits.
uint64_t SumOf(const uint64_t* values, int64_t count) {
  std::array<uint64_t, 8> sums = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] += values[i + static_cast<int64_t>(lane)];
  }
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0});
}

// The reads that fetch a catalog's experts, in random order of experts.
std::vector<ByteRange> ShuffledRanges(const ExpertCatalog& catalog, uint64_t bytes_max) {
  std::vector<ExpertId> ids;
  for (const LayerExperts& layer : catalog.layers) {
    for (int e = 0; e < layer.expert_count; ++e) ids.push_back({layer.layer, e});
  }
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(kDriveSeed));
  std::vector<ByteRange> ranges;
  uint64_t bytes = 0;
  for (const ExpertId& id : ids) {
    const LayerExperts& layer = *catalog.Find(id.layer);
    for (int p = 0; p < layer.part_count; ++p) {
      ByteRange range = layer.parts[p];
      range.offset += static_cast<uint64_t>(id.expert) * layer.stride_bytes[p];
      bytes += range.bytes;
      ranges.push_back(range);
    }
    if (bytes >= bytes_max) break;
  }
  return ranges;
}

// Keeps kDriveReadsInFlight reads under way until all ranges are read; returns bytes read.
class DriveTest {
 public:
  static absl::StatusOr<std::unique_ptr<DriveTest>> Create(BlockReader& reader,
                                                           std::vector<ByteRange> ranges) {
    size_t slot_bytes = 0;
    for (const ByteRange& range : ranges) {
      const size_t alignment = reader.alignment(range.file);
      slot_bytes = std::max(slot_bytes, CoverAligned(range.offset, range.bytes, alignment).bytes);
    }
    slot_bytes = CoverAligned(0, slot_bytes, kSlotAlignment).bytes;
    ASSIGN_OR_RETURN(HostBuffer buffer, HostBuffer::Create(slot_bytes * kDriveReadsInFlight));
    reader.RegisterMemory(buffer.span());
    return std::unique_ptr<DriveTest>(
        new DriveTest(reader, std::move(ranges), std::move(buffer), slot_bytes));
  }

  absl::StatusOr<uint64_t> Run() {
    for (uint64_t slot = 0; slot < kDriveReadsInFlight; ++slot) SubmitNext(slot);
    uint64_t bytes = 0;
    std::array<ReadCompletion, kDriveReadsInFlight> completions;
    while (reader_.in_flight() > 0) {
      const size_t count = reader_.Reap(absl::MakeSpan(completions), BlockReader::Wait::kUntilOne);
      for (size_t i = 0; i < count; ++i) {
        if (completions[i].result < 0) {
          return absl::UnavailableError("the drive failed a read of the model file");
        }
        bytes += static_cast<uint64_t>(completions[i].result);
        SubmitNext(completions[i].tag);
      }
    }
    return bytes;
  }

 private:
  static constexpr size_t kSlotAlignment = 4096;

  DriveTest(BlockReader& reader, std::vector<ByteRange> ranges, HostBuffer buffer,
            size_t slot_bytes)
      : reader_(reader),
        ranges_(std::move(ranges)),
        buffer_(std::move(buffer)),
        slot_bytes_(slot_bytes) {}

  void SubmitNext(uint64_t slot) {
    if (next_ == ranges_.size()) return;
    const ByteRange& range = ranges_[next_++];
    const AlignedRange cover =
        CoverAligned(range.offset, range.bytes, reader_.alignment(range.file));
    reader_.Submit({.file = range.file,
                    .offset = cover.offset,
                    .target = buffer_.data() + slot * slot_bytes_,
                    .bytes = cover.bytes,
                    .tag = slot},
                   ReadPriority::kDemand);
  }

  BlockReader& reader_;
  const std::vector<ByteRange> ranges_;
  const HostBuffer buffer_;
  const size_t slot_bytes_;
  size_t next_ = 0;
};

}  // namespace

absl::StatusOr<double> MeasureMemoryBandwidth(int thread_count) {
  const uint64_t bytes = std::min(kMemoryTestBytes, ReadMemoryLimits().available_bytes / 4);
  ASSIGN_OR_RETURN(const HostBuffer buffer, HostBuffer::Create(bytes));
  ThreadTeam team({.thread_count = thread_count, .cpus = ReadTopology().cpus});
  const RealClock clock;
  std::atomic<uint64_t> checksum = 0;  // keeps the sums from being optimized away
  std::vector<double> rates;
  for (int pass = 0; pass < kMemoryPasses; ++pass) {
    const int64_t start_ns = clock.NowNs();
    team.ParallelFor(
        static_cast<int64_t>(bytes), kMemoryGrainBytes, [&](int64_t begin, int64_t end, int) {
          const auto* values = reinterpret_cast<const uint64_t*>(buffer.data() + begin);
          checksum += SumOf(values, (end - begin) / 8);
        });
    const int64_t elapsed_ns = std::max<int64_t>(1, clock.NowNs() - start_ns);
    rates.push_back(static_cast<double>(bytes) * 1e9 / static_cast<double>(elapsed_ns));
  }
  std::nth_element(rates.begin(), rates.begin() + kMemoryPasses / 2, rates.end());
  return rates[kMemoryPasses / 2];
}

absl::StatusOr<DriveBandwidth> MeasureDriveBandwidth(absl::Span<const std::string> paths,
                                                     const ExpertCatalog& catalog,
                                                     const std::string& io) {
  ASSIGN_OR_RETURN(const BlockReaderChoice choice, MakeBlockReader(io, BlockReader::Options{}));
  for (const std::string& path : paths) RETURN_IF_ERROR(choice.reader->AddFile(path).status());
  std::vector<ByteRange> ranges = ShuffledRanges(catalog, kDriveTestBytes);
  const size_t read_count = ranges.size();
  ASSIGN_OR_RETURN(const std::unique_ptr<DriveTest> test,
                   DriveTest::Create(*choice.reader, std::move(ranges)));
  const RealClock clock;
  const int64_t start_ns = clock.NowNs();
  ASSIGN_OR_RETURN(const uint64_t bytes, test->Run());
  const int64_t elapsed_ns = std::max<int64_t>(1, clock.NowNs() - start_ns);
  return DriveBandwidth{
      .bytes_per_second = static_cast<double>(bytes) * 1e9 / static_cast<double>(elapsed_ns),
      .read_bytes = bytes,
      .block_bytes = bytes / std::max<size_t>(1, read_count),
      .notice = choice.reader->notice()};
}

}  // namespace stoker
