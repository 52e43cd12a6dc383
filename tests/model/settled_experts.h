// A store for tests of the model: some layers in device memory for good, the others as
// PlacedExperts has them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/expert_catalog.h"
#include "cache/expert_provider.h"
#include "device/device.h"
#include "device/device_buffer.h"

namespace stoker {

// What a store was told of one layer in a step, by a request or afterwards.
struct StoreUse {
  int layer = 0;
  std::vector<int32_t> experts;
  std::vector<int32_t> rows;  // of each
  friend bool operator==(const StoreUse&, const StoreUse&) = default;
};

class SettledExperts final : public ExpertProvider {
 public:
  // Copies every expert to the device. `host` hands out host memory; layers that are not resident
  // are asked of `others`.
  static absl::StatusOr<std::unique_ptr<SettledExperts>> Create(ExpertProvider& host,
                                                                ExpertProvider& others,
                                                                const ExpertCatalog& catalog,
                                                                Device& device);

  // Which layers are resident from here on; at first all are.
  void Settle(std::function<bool(int layer)> is_resident) { is_resident_ = std::move(is_resident); }
  // Whether what is told is noted.
  void Hear(bool hears) { hears_ = hears; }
  // In the order told.
  std::vector<StoreUse>& uses() { return uses_; }
  int64_t request_count() const { return request_count_; }

  int pins_max(int layer) const override { return others_.pins_max(layer); }
  using ExpertProvider::Request;
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override;
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override {
    return others_.Collect(out, wait);
  }
  int outstanding() const override { return others_.outstanding(); }
  ResidentLayer Resident(int layer) override;
  void NoteUses(int layer, absl::Span<const int32_t> experts,
                absl::Span<const int32_t> rows) override;

 protected:
  void Unpin(int32_t) override {}  // what others hand out is theirs

 private:
  struct Layer {
    std::vector<const std::byte*> parts;  // [experts, kExpertPartsMax]
    DeviceEvent since;
  };
  SettledExperts(ExpertProvider& others, const ExpertCatalog& catalog, Device& device)
      : others_(others), catalog_(catalog), device_(device) {}
  absl::Status CopyLayer(ExpertProvider& host, const LayerExperts& experts, std::byte*& to);

  ExpertProvider& others_;
  const ExpertCatalog& catalog_;
  Device& device_;
  DeviceBuffer memory_;
  std::vector<Layer> layers_;  // by transformer layer
  std::function<bool(int)> is_resident_ = [](int) { return true; };
  std::vector<StoreUse> uses_;
  int64_t request_count_ = 0;
  bool hears_ = true;
};

}  // namespace stoker
