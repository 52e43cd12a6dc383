// What the machine's links carry, measured in a moment at start: what experts are placed by.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "cache/placement.h"
#include "runtime/link_traffic.h"

namespace stoker {

// What links are measured with. Everything given must outlive the measurement.
struct LinkParts {
  const Ops* ops = nullptr;
  ThreadTeam* team = nullptr;
  const Clock* clock = nullptr;
  ExpertShape shape;                       // of the experts, without data
  Device* device = nullptr;                // null: no copies
  BlockReader* reader = nullptr;           // null: no drive
  const ExpertCatalog* experts = nullptr;  // of the reader's files
  // Memory that may be taken for a while, a few experts at least. More than the processor's caches
  // hold is needed for rates of memory.
  uint64_t host_bytes = 0;
  uint64_t device_bytes = 0;
  // Of the device's memory, where it is set and not to be measured (a modelled one's); else 0.
  double device_rate = 0;
};

// The shape of a model's experts: that of the first layer that has any. Requires one.
absl::StatusOr<ExpertShape> ShapeOfExperts(const GgufModel& gguf, const ModelSpec& spec);

// Rows that stand for many: several panels.
inline constexpr int kManyRows = 32;

// The traffic of every link of a machine, over memory of its own.
class LinkSet {
 public:
  // ResourceExhausted when there is not the memory, or it cannot be pinned.
  static absl::StatusOr<std::unique_ptr<LinkSet>> Create(const LinkParts& parts);
  ~LinkSet();
  LinkSet(const LinkSet&) = delete;
  LinkSet& operator=(const LinkSet&) = delete;

  // Null: the machine has no such link.
  Traffic* one_row() const { return one_row_.get(); }
  Traffic* many_rows() const { return many_rows_.get(); }
  Traffic* copy_in() const { return copy_in_.get(); }
  Traffic* copy_out() const { return copy_out_.get(); }
  Traffic* copy_within() const { return copy_within_.get(); }
  Traffic* drive() const { return drive_.get(); }

 private:
  explicit LinkSet(Device* device) : device_(device) {}
  absl::Status TakeMemory(const LinkParts& parts);
  absl::Status MakeTraffic(const LinkParts& parts);

  Device* const device_;
  HostBuffer host_;
  bool is_pinned_ = false;
  DeviceBuffer on_device_;
  // Parts of host_.
  absl::Span<std::byte> weights_;
  absl::Span<std::byte> copied_out_;
  absl::Span<std::byte> read_;
  std::unique_ptr<Traffic> one_row_, many_rows_, copy_in_, copy_out_, copy_within_, drive_;
};

// The rates of all links, in about 250 ms where they are fast enough for that and a second where
// they are not. LinkRates::device is that of the device's memory, by which one row is bound. The
// drive's is left 0 when a read failed. The device's error when it has failed.
absl::StatusOr<LinkRates> ProbeLinks(const LinkParts& parts);

}  // namespace stoker
