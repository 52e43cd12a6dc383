// Which host memory is pinned, so that copies with any other can be counted.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace stoker {

// Disjoint ranges of whole pages. Few: a search goes through them all.
class PinnedRanges {
 public:
  // Must start at a page and overlap no other range.
  void Add(absl::Span<std::byte> host);
  // Must have been added as it is.
  void Remove(absl::Span<std::byte> host);
  // Whether all of it lies in one range.
  bool Contains(const std::byte* host, size_t bytes) const;
  size_t TotalBytes() const;
  bool IsEmpty() const { return ranges_.empty(); }

 private:
  std::vector<absl::Span<std::byte>> ranges_;
};

}  // namespace stoker
