// A store for tests of the model: every expert in host memory, and handed out from there or from
// the device, in an order and in batches of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/status/statusor.h"
#include "base/expert_catalog.h"
#include "cache/expert_provider.h"
#include "device/device.h"
#include "device/device_buffer.h"

namespace stoker {

// What goes to the device is copied into one of a few slots there, each used again as soon as its
// release says so. A model that releases too early, or does not wait for `ready`, computes with
// another expert's bytes.
class PlacedExperts final : public ExpertProvider {
 public:
  enum class Places : uint8_t { kHost, kDevice, kMixed };
  struct Options {
    Places places = Places::kMixed;
    int pins = 4;
    uint32_t seed = 1;
  };
  // `host` hands out host memory that stays where it is after a release.
  static absl::StatusOr<std::unique_ptr<PlacedExperts>> Create(ExpertProvider& host,
                                                               const ExpertCatalog& catalog,
                                                               Device& device,
                                                               const Options& options);

  int pins_max(int) const override { return options_.pins; }
  using ExpertProvider::Request;
  absl::Status Request(int layer, absl::Span<const int32_t> experts,
                       absl::Span<const int32_t> rows) override;
  absl::StatusOr<int> Collect(absl::Span<ExpertRef> out, Wait wait) override;
  int outstanding() const override { return static_cast<int>(waiting_.size()); }
  void NoteHostCompute(uint64_t bytes, uint64_t row_bytes, int64_t ns) override;

  int64_t host_count() const { return host_count_; }
  int64_t device_count() const { return device_count_; }
  uint64_t noted_bytes() const { return noted_bytes_; }
  uint64_t noted_row_bytes() const { return noted_row_bytes_; }
  int64_t rows_asked() const { return rows_asked_; }

 protected:
  void Unpin(int32_t slot) override;
  void UnpinAfter(int32_t slot, DeviceEvent event) override;

 private:
  struct Parts {
    const std::byte* at[kExpertPartsMax] = {};
  };
  struct Slot {
    std::byte* memory = nullptr;
    Parts parts;
    DeviceEvent free_after;
  };
  PlacedExperts(ExpertProvider& host, const ExpertCatalog& catalog, Device& device,
                const Options& options)
      : host_(host), catalog_(catalog), device_(device), options_(options), random_(options.seed) {}
  ExpertRef PlaceOnDevice(int32_t expert);

  ExpertProvider& host_;
  const ExpertCatalog& catalog_;
  Device& device_;
  const Options options_;
  std::mt19937 random_;
  DeviceBuffer memory_;
  std::vector<Slot> slots_;
  std::vector<int32_t> free_slots_;
  std::vector<Parts> host_parts_;  // by expert, of the running request's layer
  std::vector<int32_t> waiting_;
  int layer_ = 0;
  int held_ = 0;
  int64_t host_count_ = 0, device_count_ = 0, rows_asked_ = 0;
  uint64_t noted_bytes_ = 0, noted_row_bytes_ = 0;
};

}  // namespace stoker
