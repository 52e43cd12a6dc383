// Each link alone, and the two that read the same memory together.
#include "runtime/link_probe.h"

#include <algorithm>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kDevicePieces = 8;
// Copied from and to within the device, memory allowing: several times the largest caches of GPUs.
constexpr uint64_t kWithinBytes = uint64_t{512} << 20;
constexpr uint64_t kWithinPieceBytes = uint64_t{32} << 20;
constexpr uint64_t kDrivePlaces = 4;  // whole-expert reads keep a drive busy at a depth of 1 to 4
constexpr int64_t kMs = 1'000'000;
// Seven measurements.
constexpr TrafficTime kProbeTime = {.warm_ns = 5 * kMs, .least_ns = 25 * kMs, .most_ns = 150 * kMs};

uint64_t WholePages(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

// An expert as it is copied.
uint64_t PieceBytes(const ExpertShape& shape) { return WholePages(ExpertBytes(shape)); }

HostTrafficOptions HostOptions(const LinkParts& parts, absl::Span<const std::byte> weights,
                               int rows) {
  return {
      .ops = parts.ops, .team = parts.team, .shape = parts.shape, .weights = weights, .rows = rows};
}

}  // namespace

absl::StatusOr<ExpertShape> ShapeOfExperts(const GgufModel& gguf, const ModelSpec& spec) {
  CHECK(!spec.experts.layers.empty());
  ASSIGN_OR_RETURN(const ExpertTensors tensors,
                   DescribeExperts(gguf, spec.config, spec.experts.layers.front().layer));
  return tensors.shape;
}

absl::StatusOr<std::unique_ptr<LinkSet>> LinkSet::Create(const LinkParts& parts) {
  std::unique_ptr<LinkSet> links(new LinkSet(parts.device));
  RETURN_IF_ERROR(links->TakeMemory(parts));
  RETURN_IF_ERROR(links->MakeTraffic(parts));
  return links;
}

LinkSet::~LinkSet() {
  if (is_pinned_) device_->Unpin(host_.span());
}

absl::Status LinkSet::TakeMemory(const LinkParts& parts) {
  const uint64_t piece_bytes = PieceBytes(parts.shape);
  const uint64_t out_bytes = parts.device != nullptr ? piece_bytes : 0;
  const uint64_t read_bytes =
      parts.reader != nullptr
          ? WholePages(kDrivePlaces * DriveReadBytes(*parts.reader, *parts.experts))
          : 0;
  const uint64_t others_bytes = out_bytes + read_bytes +
                                HostTrafficBytes(HostOptions(parts, {}, 1)) +
                                HostTrafficBytes(HostOptions(parts, {}, kManyRows));
  uint64_t weights_bytes = piece_bytes;
  if (parts.host_bytes > others_bytes + piece_bytes) {
    weights_bytes = (parts.host_bytes - others_bytes) / kPageBytes * kPageBytes;
  }
  ASSIGN_OR_RETURN(host_, HostBuffer::Create(weights_bytes + out_bytes + read_bytes));
  weights_ = host_.span().subspan(0, weights_bytes);
  copied_out_ = host_.span().subspan(weights_bytes, out_bytes);
  read_ = host_.span().subspan(weights_bytes + out_bytes, read_bytes);
  if (device_ == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(device_->Pin(host_.span()));
  is_pinned_ = true;
  uint64_t device_bytes =
      std::clamp<uint64_t>(parts.device_bytes / piece_bytes, 1, kDevicePieces) * piece_bytes;
  if (parts.device_rate == 0) {
    const uint64_t within_bytes = std::min(parts.device_bytes, kWithinBytes);
    device_bytes = std::max(device_bytes, within_bytes / kPageBytes * kPageBytes);
  }
  ASSIGN_OR_RETURN(on_device_, device_->Take(device_bytes));
  return absl::OkStatus();
}

absl::Status LinkSet::MakeTraffic(const LinkParts& parts) {
  ASSIGN_OR_RETURN(one_row_, MakeHostTraffic(HostOptions(parts, weights_, 1)));
  ASSIGN_OR_RETURN(many_rows_, MakeHostTraffic(HostOptions(parts, weights_, kManyRows)));
  if (parts.reader != nullptr) {
    drive_ = MakeDriveTraffic({.reader = parts.reader, .experts = parts.experts, .target = read_});
  }
  if (device_ == nullptr) return absl::OkStatus();
  const absl::Span<std::byte> on_device(on_device_.data(), on_device_.bytes());
  CopyTrafficOptions copies = {.device = device_,
                               .stream = Stream::kCopyIn,
                               .from = weights_,
                               .to = on_device,
                               .piece_bytes = PieceBytes(parts.shape)};
  copy_in_ = MakeCopyTraffic(copies);
  copies.stream = Stream::kCopyOut;
  copies.from = on_device;
  copies.to = copied_out_;
  copy_out_ = MakeCopyTraffic(copies);
  if (parts.device_rate > 0) return absl::OkStatus();
  const uint64_t half_bytes = on_device.size() / 2;
  copies.stream = Stream::kCompute;
  copies.from = on_device.first(half_bytes);
  copies.to = on_device.last(half_bytes);
  copies.piece_bytes = std::min(half_bytes, kWithinPieceBytes);
  copy_within_ = MakeCopyTraffic(copies);
  return absl::OkStatus();
}

absl::StatusOr<LinkRates> ProbeLinks(const LinkParts& parts) {
  ASSIGN_OR_RETURN(const std::unique_ptr<LinkSet> links, LinkSet::Create(parts));
  const auto alone = [&](Traffic* traffic) -> absl::StatusOr<double> {
    if (traffic == nullptr) return 0;
    ASSIGN_OR_RETURN(const std::vector<double> rates,
                     MeasureTraffic({&traffic, 1}, kProbeTime, *parts.clock));
    return rates[0];
  };
  LinkRates rates;
  ASSIGN_OR_RETURN(rates.host, alone(links->one_row()));
  ASSIGN_OR_RETURN(rates.host_row, alone(links->many_rows()));
  ASSIGN_OR_RETURN(rates.copy_in, alone(links->copy_in()));
  ASSIGN_OR_RETURN(rates.copy_out, alone(links->copy_out()));
  ASSIGN_OR_RETURN(rates.device, alone(links->copy_within()));
  if (parts.device_rate > 0) rates.device = parts.device_rate;
  // A drive that fails a read now is not known to fail the retry of a step: no rate, no error.
  rates.drive = alone(links->drive()).value_or(0);
  if (links->copy_in() == nullptr) return rates;
  Traffic* const both[] = {links->copy_in(), links->one_row()};
  ASSIGN_OR_RETURN(const std::vector<double> together,
                   MeasureTraffic(both, kProbeTime, *parts.clock));
  rates.copy_beside_host = together[0];
  rates.host_beside_copy = together[1];
  return rates;
}

}  // namespace stoker
