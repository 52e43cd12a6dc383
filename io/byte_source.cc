// Refilling the window, and saying what ran out.
#include "io/byte_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"

namespace stoker {

namespace {
constexpr uint64_t kChunkBytesMax = 4 << 20;
}

absl::StatusOr<ByteSource> ByteSource::Open(const std::string& path, uint64_t limit) {
  ASSIGN_OR_RETURN(FileDescriptor file, OpenForReading(path));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  return ByteSource(std::move(file), path, identity.bytes, limit);
}

ByteSource::ByteSource(FileDescriptor file, std::string_view name, uint64_t file_bytes,
                       uint64_t limit)
    : name_(name),
      file_(std::move(file)),
      file_bytes_(file_bytes),
      end_(std::min(file_bytes, limit)) {}

ByteSource::ByteSource(absl::Span<const uint8_t> bytes, std::string_view name, uint64_t limit)
    : name_(name),
      window_(bytes.data()),
      window_end_(std::min<uint64_t>(bytes.size(), limit)),
      file_bytes_(bytes.size()),
      end_(window_end_) {}

absl::Status ByteSource::RunsOut(std::string_view what, uint64_t needed) const {
  if (end_ < file_bytes_) {
    return absl::DataLossError(
        fmt::format("{}: {} at byte {} reaches past the first {} bytes, the most that metadata may "
                    "take; the file is corrupt",
                    name_, what, position_, end_));
  }
  return absl::DataLossError(
      fmt::format("{}: {} at byte {} needs {} bytes, but the file ends after {} more ({} in all); "
                  "it is truncated or corrupt: download it again",
                  name_, what, position_, needed, left(), file_bytes_));
}

absl::Status ByteSource::Fill(uint64_t count) {
  if (count > left()) return RunsOut("the metadata", count);
  // Only a file gets here: a window over memory ends where the source ends.
  const uint64_t kept = window_end_ - position_;
  const uint64_t wanted = std::min(left(), std::max(count, chunk_bytes_));
  chunk_bytes_ = std::min(2 * chunk_bytes_, kChunkBytesMax);
  if (kept > 0) std::memmove(buffer_.data(), window_ + (position_ - window_begin_), kept);
  buffer_.resize(std::max<size_t>(buffer_.size(), wanted));
  ASSIGN_OR_RETURN(const size_t got,
                   ReadAt(file_, position_ + kept, buffer_.data() + kept, wanted - kept, name_));
  window_ = buffer_.data();
  window_begin_ = position_;
  window_end_ = position_ + kept + got;
  if (got == wanted - kept) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("{}: shrank from {} to {} bytes while it was read; something else writes to it",
                  name_, file_bytes_, window_end_));
}

}  // namespace stoker
