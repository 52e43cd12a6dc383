// Where the resident weights go in memory: the file's own runs of bytes, then what is converted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "model/weights.h"

namespace stoker {

// Neighbouring tensors are read as one run, at the same offset within a block as in the file, so
// that O_DIRECT reads land in place without a copy. Vectors, and keys transposed from the old MLA
// layout, get a place of their own behind the runs.
class TrunkLayout {
 public:
  // The largest alignment a file system asks of O_DIRECT; runs start and end at multiples of it.
  static constexpr uint64_t kBlockBytes = 4096;

  struct Run {
    int file = 0;           // index into GgufModel::paths()
    uint64_t offset = 0;    // in the file, a multiple of kBlockBytes
    uint64_t bytes = 0;     // a multiple of kBlockBytes; may reach past the end of the file
    uint64_t arena_at = 0;  // in the arena, a multiple of kBlockBytes
    uint64_t wanted = 0;    // bytes from `offset` that tensors need
  };

  explicit TrunkLayout(absl::Span<const TrunkTensor> tensors);

  absl::Span<const Run> runs() const { return runs_; }
  // Of tensor i: its bytes as in the file, and its converted form (0 where there is none).
  uint64_t raw_at(size_t i) const { return raw_at_[i]; }
  uint64_t converted_at(size_t i) const { return converted_at_[i]; }
  uint64_t bytes() const { return bytes_; }  // of the whole arena

 private:
  std::vector<Run> runs_;
  std::vector<uint64_t> raw_at_;
  std::vector<uint64_t> converted_at_;
  uint64_t bytes_ = 0;
};

}  // namespace stoker
