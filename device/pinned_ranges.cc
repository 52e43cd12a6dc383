// A short list, searched.
#include "device/pinned_ranges.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace stoker {
namespace {

bool IsSame(absl::Span<std::byte> a, absl::Span<std::byte> b) {
  return a.data() == b.data() && a.size() == b.size();
}

}  // namespace

void PinnedRanges::Add(absl::Span<std::byte> host) {
  CHECK(!host.empty());
  CHECK(reinterpret_cast<uintptr_t>(host.data()) % static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)) ==
        0);
  for (const absl::Span<std::byte> range : ranges_) {
    CHECK(host.data() >= range.data() + range.size() || range.data() >= host.data() + host.size());
  }
  ranges_.push_back(host);
}

void PinnedRanges::Remove(absl::Span<std::byte> host) {
  const auto found = std::find_if(ranges_.begin(), ranges_.end(),
                                  [&](absl::Span<std::byte> r) { return IsSame(r, host); });
  CHECK(found != ranges_.end());
  ranges_.erase(found);
}

bool PinnedRanges::Contains(const std::byte* host, size_t bytes) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](absl::Span<std::byte> range) {
    return host >= range.data() && host + bytes <= range.data() + range.size();
  });
}

size_t PinnedRanges::TotalBytes() const {
  size_t bytes = 0;
  for (const absl::Span<std::byte> range : ranges_) bytes += range.size();
  return bytes;
}

}  // namespace stoker
