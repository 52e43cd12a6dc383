// The three kinds of traffic, and the loop that runs them side by side.
#include "runtime/link_traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <system_error>
#include <thread>

#include "base/check.h"
#include "base/status.h"
#include "model/carver.h"

namespace stoker {
namespace {

// Experts computed as one unit: about what a token asks of a layer, and fewer with many rows.
constexpr uint64_t kHostExpertsMax = 8;
constexpr uint64_t kHostExpertsOfManyRows = 2;
// Copies under way: enough that none is missing while the processor computes a unit.
constexpr size_t kCopiesMax = 16;
constexpr uint64_t kDriveSeed = 1;
constexpr size_t kDriveAlignment = 4096;

class HostTraffic final : public Traffic {
 public:
  explicit HostTraffic(const HostTrafficOptions& options)
      : options_(options),
        expert_bytes_(ExpertBytes(options.shape)),
        expert_count_(options.weights.size() / expert_bytes_),
        unit_experts_(options.rows == 1 ? kHostExpertsMax : kHostExpertsOfManyRows) {
    CHECK(options.rows >= 1);
  }

  uint64_t memory_bytes() {
    Carver counting;
    Carve(counting);
    return counting.bytes();
  }
  absl::Status TakeMemory() {
    ASSIGN_OR_RETURN(memory_, HostBuffer::Create(memory_bytes()));
    Carver carver(memory_.data());
    Carve(carver);
    return absl::OkStatus();
  }

  absl::Status Pump() override {
    CHECK(expert_count_ >= 1);
    const ExpertShape& shape = options_.shape;
    const KindSet kinds = KindSet::Of({&shape.views.gate, &shape.views.up});
    input_.Assign(x_, RowStride(shape.views.gate.cols), options_.rows, shape.views.gate.cols);
    input_.Quantize(*options_.ops, *options_.team, kinds);
    inner_.Assign(inner_x_, RowStride(shape.views.down.cols), options_.rows, shape.views.down.cols);
    inner_.Quantize(*options_.ops, *options_.team, KindSet::Of({&shape.views.down}));
    MatmulArgs first[2 * kHostExpertsMax];
    MatmulArgs second[kHostExpertsMax];
    for (uint64_t i = 0; i < unit_experts_; ++i) {
      const std::byte* const weights = options_.weights.data() + next_ * expert_bytes_;
      next_ = (next_ + 1) % expert_count_;
      first[2 * i] = ProductOf(shape.views.gate, weights, input_, 2 * i);
      first[2 * i + 1] =
          ProductOf(shape.views.up, weights + shape.views.gate.bytes(), input_, 2 * i + 1);
      second[i] = ProductOf(shape.views.down,
                            weights + shape.views.gate.bytes() + shape.views.up.bytes(), inner_, i);
    }
    RunProducts(*options_.ops, *options_.team, {first, 2 * unit_experts_});
    RunProducts(*options_.ops, *options_.team, {second, unit_experts_});
    Count(unit_experts_ * expert_bytes_ * static_cast<uint64_t>(options_.rows));
    return absl::OkStatus();
  }
  absl::Status Drain() override { return absl::OkStatus(); }

 private:
  void Carve(Carver& carver) {
    const FeedForwardWeights& views = options_.shape.views;
    const int64_t rows = options_.rows;
    const int64_t out_floats = std::max(views.gate.rows, views.down.rows);
    x_ = carver.Take<float>(rows * RowStride(views.gate.cols));
    inner_x_ = carver.Take<float>(rows * RowStride(views.down.cols));
    // Rows for each product of a unit, which nobody reads.
    const int64_t out_rows = rows * 2 * static_cast<int64_t>(unit_experts_);
    outs_ = carver.Take<float*>(out_rows);
    float* const out = carver.Take<float>(out_rows * RowStride(out_floats));
    input_.Carve(carver, {.rows = rows,
                          .cols = views.gate.cols,
                          .panels = PanelCount(rows),
                          .kinds = KindSet::Of({&views.gate, &views.up})});
    inner_.Carve(carver, {.rows = rows,
                          .cols = views.down.cols,
                          .panels = PanelCount(rows),
                          .kinds = KindSet::Of({&views.down})});
    if (outs_ == nullptr) return;
    for (int64_t r = 0; r < out_rows; ++r) outs_[r] = out + r * RowStride(out_floats);
  }

  MatmulArgs ProductOf(MatrixView view, const std::byte* data, const Activations& x,
                       uint64_t index) const {
    view.data = data;
    return Product(view, x, outs_ + index * static_cast<uint64_t>(options_.rows));
  }

  const HostTrafficOptions options_;
  const uint64_t expert_bytes_;
  const uint64_t expert_count_;
  const uint64_t unit_experts_;
  uint64_t next_ = 0;
  HostBuffer memory_;
  float* x_ = nullptr;
  float* inner_x_ = nullptr;
  float** outs_ = nullptr;
  Activations input_;
  Activations inner_;
};

class CopyTraffic final : public Traffic {
 public:
  explicit CopyTraffic(const CopyTrafficOptions& options)
      : options_(options),
        from_count_(options.from.size() / options.piece_bytes),
        to_count_(options.to.size() / options.piece_bytes) {
    CHECK(from_count_ >= 1 && to_count_ >= 1);
  }

  absl::Status Pump() override {
    while (!under_way_.empty() && options_.device->IsDone(under_way_.front())) {
      RETURN_IF_ERROR(EndOldest());
    }
    while (under_way_.size() < kCopiesMax) Start();
    return absl::OkStatus();
  }
  absl::Status Drain() override {
    while (!under_way_.empty()) RETURN_IF_ERROR(EndOldest());
    return absl::OkStatus();
  }

 private:
  void Start() {
    Device& device = *options_.device;
    const uint64_t bytes = options_.piece_bytes;
    const std::byte* const from = options_.from.data() + next_ % from_count_ * bytes;
    std::byte* const to = options_.to.data() + next_ % to_count_ * bytes;
    ++next_;
    switch (options_.stream) {
      case Stream::kCopyIn:
        device.CopyIn(options_.stream, to, from, bytes);
        break;
      case Stream::kCopyOut:
        device.CopyOut(options_.stream, to, from, bytes);
        break;
      case Stream::kCompute:
        device.CopyWithin(options_.stream, to, from, bytes);
        break;
    }
    under_way_.push_back(options_.device->Record(options_.stream));
  }

  absl::Status EndOldest() {
    RETURN_IF_ERROR(options_.device->Await(under_way_.front()));
    under_way_.pop_front();
    Count(options_.piece_bytes * (options_.stream == Stream::kCompute ? 2 : 1));
    return absl::OkStatus();
  }

  const CopyTrafficOptions options_;
  const uint64_t from_count_;
  const uint64_t to_count_;
  uint64_t next_ = 0;
  std::deque<DeviceEvent> under_way_;
};

std::vector<ByteRange> ShuffledRanges(const ExpertCatalog& experts) {
  std::vector<ExpertId> ids;
  for (const LayerExperts& layer : experts.layers) {
    for (int e = 0; e < layer.expert_count; ++e) ids.push_back({layer.layer, e});
  }
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(kDriveSeed));
  std::vector<ByteRange> ranges;
  for (const ExpertId& id : ids) {
    const LayerExperts& layer = *experts.Find(id.layer);
    for (int p = 0; p < layer.part_count; ++p) {
      ByteRange range = layer.parts[p];
      range.offset += static_cast<uint64_t>(id.expert) * layer.stride_bytes[p];
      ranges.push_back(range);
    }
  }
  return ranges;
}

class DriveTraffic final : public Traffic {
 public:
  explicit DriveTraffic(const DriveTrafficOptions& options)
      : reader_(*options.reader),
        ranges_(ShuffledRanges(*options.experts)),
        target_(options.target),
        place_bytes_(DriveReadBytes(reader_, *options.experts)) {
    const size_t places = std::min<size_t>(kDriveReadsMax, target_.size() / place_bytes_);
    CHECK(places >= 1);
    for (size_t place = 0; place < places; ++place) free_.push_back(place);
  }

  absl::Status Pump() override {
    RETURN_IF_ERROR(Reap(BlockReader::Wait::kNo));
    for (; !free_.empty(); free_.pop_back()) Start(free_.back());
    reader_.Kick();
    return absl::OkStatus();
  }
  absl::Status Drain() override {
    absl::Status first;
    while (reader_.in_flight() > 0) {
      const absl::Status status = Reap(BlockReader::Wait::kUntilOne);
      if (first.ok()) first = status;
    }
    return first;
  }

 private:
  void Start(size_t place) {
    const ByteRange& range = ranges_[next_++ % ranges_.size()];
    const AlignedRange cover =
        CoverAligned(range.offset, range.bytes, reader_.alignment(range.file));
    reader_.Submit({.file = range.file,
                    .offset = cover.offset,
                    .target = target_.data() + place * place_bytes_,
                    .bytes = cover.bytes,
                    .tag = place},
                   ReadPriority::kDemand);
  }

  absl::Status Reap(BlockReader::Wait wait) {
    absl::Status status;
    std::array<ReadCompletion, kDriveReadsMax> completions;
    const size_t count = reader_.Reap(absl::MakeSpan(completions), wait);
    for (const ReadCompletion& completion : absl::MakeSpan(completions.data(), count)) {
      free_.push_back(static_cast<size_t>(completion.tag));
      if (completion.result >= 0) {
        Count(static_cast<uint64_t>(completion.result));
        continue;
      }
      status = absl::UnavailableError(
          fmt::format("the drive failed a read of the model file: {}",
                      std::generic_category().message(static_cast<int>(-completion.result))));
    }
    return status;
  }

  BlockReader& reader_;
  const std::vector<ByteRange> ranges_;
  const absl::Span<std::byte> target_;
  const uint64_t place_bytes_;
  std::vector<size_t> free_;
  size_t next_ = 0;
};

absl::Status PumpAll(absl::Span<Traffic* const> traffic) {
  for (Traffic* const one : traffic) RETURN_IF_ERROR(one->Pump());
  return absl::OkStatus();
}

bool HaveMovedEnough(absl::Span<Traffic* const> traffic, const std::vector<int64_t>& units_before) {
  for (size_t i = 0; i < traffic.size(); ++i) {
    if (traffic[i]->units() < units_before[i] + kTrafficUnitsMin) return false;
  }
  return true;
}

absl::StatusOr<std::vector<double>> RunTraffic(absl::Span<Traffic* const> traffic,
                                               const TrafficTime& time, const Clock& clock) {
  for (const int64_t start_ns = clock.NowNs(); clock.NowNs() - start_ns < time.warm_ns;) {
    RETURN_IF_ERROR(PumpAll(traffic));
  }
  std::vector<uint64_t> bytes_before;
  std::vector<int64_t> units_before;
  for (const Traffic* const one : traffic) {
    bytes_before.push_back(one->bytes());
    units_before.push_back(one->units());
  }
  const int64_t start_ns = clock.NowNs();
  int64_t elapsed_ns = 0;
  for (bool is_over = false; !is_over;) {
    RETURN_IF_ERROR(PumpAll(traffic));
    elapsed_ns = clock.NowNs() - start_ns;
    is_over = elapsed_ns >= time.most_ns ||
              (elapsed_ns >= time.least_ns && HaveMovedEnough(traffic, units_before));
    std::this_thread::yield();
  }
  std::vector<double> rates;
  for (size_t i = 0; i < traffic.size(); ++i) {
    rates.push_back(static_cast<double>(traffic[i]->bytes() - bytes_before[i]) * 1e9 /
                    static_cast<double>(std::max<int64_t>(1, elapsed_ns)));
  }
  return rates;
}

}  // namespace

absl::StatusOr<std::vector<double>> MeasureTraffic(absl::Span<Traffic* const> traffic,
                                                   const TrafficTime& time, const Clock& clock) {
  absl::StatusOr<std::vector<double>> rates = RunTraffic(traffic, time, clock);
  for (Traffic* const one : traffic) {
    const absl::Status drained = one->Drain();
    if (rates.ok() && !drained.ok()) rates = drained;
  }
  return rates;
}

uint64_t ExpertBytes(const ExpertShape& shape) {
  return shape.views.gate.bytes() + shape.views.up.bytes() + shape.views.down.bytes();
}

uint64_t HostTrafficBytes(const HostTrafficOptions& options) {
  return HostTraffic(options).memory_bytes();
}

absl::StatusOr<std::unique_ptr<Traffic>> MakeHostTraffic(const HostTrafficOptions& options) {
  auto traffic = std::make_unique<HostTraffic>(options);
  RETURN_IF_ERROR(traffic->TakeMemory());
  return std::unique_ptr<Traffic>(std::move(traffic));
}

std::unique_ptr<Traffic> MakeCopyTraffic(const CopyTrafficOptions& options) {
  return std::make_unique<CopyTraffic>(options);
}

uint64_t DriveReadBytes(const BlockReader& reader, const ExpertCatalog& experts) {
  uint64_t largest = 0;
  for (const LayerExperts& layer : experts.layers) {
    for (int p = 0; p < layer.part_count; ++p) {
      // At the worst place of an expert within a block.
      const size_t alignment = reader.alignment(layer.parts[p].file);
      largest = std::max<uint64_t>(
          largest, CoverAligned(0, layer.parts[p].bytes, alignment).bytes + alignment);
    }
  }
  return CoverAligned(0, largest, kDriveAlignment).bytes;
}

std::unique_ptr<Traffic> MakeDriveTraffic(const DriveTrafficOptions& options) {
  return std::make_unique<DriveTraffic>(options);
}

}  // namespace stoker
