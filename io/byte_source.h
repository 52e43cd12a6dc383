// The head of a file, byte by byte, without trusting it: what a parser of a hostile file stands on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "io/file.h"

namespace stoker {

// Hands out bytes in order, from a file (by pread in growing chunks; never mapped, since a file
// that shrinks would then kill the process) or from memory. Nothing past `limit` bytes is handed
// out, so neither a hostile length nor a 400 GB file costs more memory than that.
class ByteSource {
 public:
  static absl::StatusOr<ByteSource> Open(const std::string& path, uint64_t limit);
  // Requires that `bytes` outlives the source.
  ByteSource(absl::Span<const uint8_t> bytes, std::string_view name, uint64_t limit);

  // The next `count` bytes; valid until the next Take. DataLoss when there are not that many left.
  absl::StatusOr<const uint8_t*> Take(uint64_t count) {
    if (count > window_end_ - position_) {
      if (absl::Status status = Fill(count); !status.ok()) return status;
    }
    const uint8_t* bytes = window_ + (position_ - window_begin_);
    position_ += count;
    return bytes;
  }

  const std::string& name() const { return name_; }
  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t position() const { return position_; }
  // Bytes that Take could still give.
  uint64_t left() const { return end_ - position_; }
  // DataLoss that says what ran out, and where: `what` needs `needed` bytes and has left().
  absl::Status RunsOut(std::string_view what, uint64_t needed) const;

 private:
  ByteSource(FileDescriptor file, std::string_view name, uint64_t file_bytes, uint64_t limit);
  absl::Status Fill(uint64_t count);

  std::string name_;
  FileDescriptor file_;
  std::vector<uint8_t> buffer_;  // of a file only
  const uint8_t* window_ = nullptr;
  uint64_t window_begin_ = 0;  // place of window_[0] in the file
  uint64_t window_end_ = 0;
  uint64_t position_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t end_ = 0;  // the lesser of file_bytes_ and the limit
  uint64_t chunk_bytes_ = 64 << 10;
};

}  // namespace stoker
