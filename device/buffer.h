// Large memory, taken once.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace stoker {

// A move-only region of host memory from mmap: zeroed, page-aligned, on huge pages where the system
// gives them. Its pages are touched at creation (so a budget that does not fit fails now, as
// ResourceExhausted, not later), unless lazy.
class HostBuffer {
 public:
  enum class Touch { kNow, kLazily };
  HostBuffer() = default;
  static absl::StatusOr<HostBuffer> Create(size_t bytes, Touch touch = Touch::kNow);
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  absl::Span<std::byte> span() const { return {data_, bytes_}; }
  // "transparent huge pages", "4 KiB pages (transparent huge pages are off)": for the operator.
  const std::string& pages() const { return pages_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  std::string pages_;
};

}  // namespace stoker
