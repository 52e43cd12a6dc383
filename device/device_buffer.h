// Memory of a device, taken once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace stoker {

class Device;

// A move-only region of device memory, at a multiple of 256 bytes. Its addresses mean something to
// the device only. It must go before the device does, and waits for all that is queued there.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device* owner, std::byte* data, uint64_t bytes)
      : owner_(owner), data_(data), bytes_(bytes) {}
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Device* owner_ = nullptr;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace stoker
