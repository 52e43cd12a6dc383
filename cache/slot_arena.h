// The memory that a tier's slots are carved from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "device/buffer.h"
#include "device/device.h"

namespace stoker {

// Host memory, plain or pinned for a device, device memory, or addresses alone: host memory that is
// reserved and takes none as long as nobody touches it. Move-only; a device must outlive the arena
// that was made for it.
class SlotArena {
 public:
  enum class Kind : uint8_t { kHost, kAddresses, kPinned, kDevice };
  struct Options {
    Kind kind = Kind::kHost;
    Device* device = nullptr;  // for kPinned and kDevice
  };
  SlotArena() = default;
  // Of no bytes: takes nothing. ResourceExhausted when the memory cannot be had.
  static absl::StatusOr<SlotArena> Create(uint64_t bytes, const Options& options);
  ~SlotArena();
  SlotArena(SlotArena&& other) noexcept { *this = std::move(other); }
  SlotArena& operator=(SlotArena&& other) noexcept;

  std::byte* data() const { return kind_ == Kind::kDevice ? device_.data() : host_.data(); }
  // Empty when the arena is device memory.
  const HostBuffer& host() const { return host_; }

 private:
  Kind kind_ = Kind::kHost;
  HostBuffer host_;
  DeviceBuffer device_;
  Device* pinned_by_ = nullptr;
};

}  // namespace stoker
