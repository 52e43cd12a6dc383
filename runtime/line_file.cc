// Appending, reading back and cutting off what a kill left half written.
#include "runtime/line_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr size_t kReadChunkBytes = 64 << 10;

absl::Status CannotWrite(const std::string& path, int error) {
  return absl::InternalError(
      fmt::format("cannot write {}: {}\n  likely: its disk or quota is full\n"
                  "  try: free some space, then run again",
                  path, std::strerror(error)));
}

}  // namespace

absl::StatusOr<LineFile> LineFile::Open(const std::string& path, Write write_or_empty) {
  FileDescriptor file(
      open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644));
  if (file.get() < 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot open {} for writing: {}\n  try: a file in a folder that exists and "
                    "that you may write to",
                    path, std::strerror(errno)));
  }
  struct stat state = {};
  if (fstat(file.get(), &state) != 0 || !S_ISREG(state.st_mode)) {
    return absl::InvalidArgumentError(fmt::format(
        "{} is not a regular file, so what is written to it cannot be read back\n  try: a file",
        path));
  }
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("{} is being written by another process\n  try: wait until it has ended, or "
                    "name another file",
                    path));
  }
  return LineFile(path, std::move(file), write_or_empty ? std::move(write_or_empty) : Write(write));
}

LineFile::LineFile(std::string path, FileDescriptor file, Write write)
    : path_(std::move(path)), file_(std::move(file)), write_(std::move(write)) {}

absl::StatusOr<uint64_t> LineFile::Bytes() const {
  struct stat state = {};
  if (fstat(file_.get(), &state) == 0) return static_cast<uint64_t>(state.st_size);
  return StatusOfErrno(errno, path_);
}

absl::Status LineFile::ForEach(
    const std::function<absl::Status(std::string_view line)>& visit) const {
  std::string held;  // the beginning of a line whose newline has not been read
  std::string chunk(kReadChunkBytes, '\0');
  for (uint64_t offset = 0;;) {
    ASSIGN_OR_RETURN(const size_t count, ReadAt(file_, offset, chunk.data(), chunk.size(), path_));
    if (count == 0) return absl::OkStatus();
    offset += count;
    std::string_view rest(chunk.data(), count);
    for (size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      held += rest.substr(0, end);
      rest.remove_prefix(end + 1);
      RETURN_IF_ERROR(visit(held));
      held.clear();
    }
    held += rest;
  }
}

absl::Status LineFile::CutTornLine() {
  ASSIGN_OR_RETURN(const uint64_t all_bytes, Bytes());
  std::string chunk(kReadChunkBytes, '\0');
  for (uint64_t end = all_bytes; end > 0;) {
    const uint64_t begin = end - std::min<uint64_t>(end, chunk.size());
    ASSIGN_OR_RETURN(const size_t count,
                     ReadAt(file_, begin, chunk.data(), static_cast<size_t>(end - begin), path_));
    const size_t newline = std::string_view(chunk.data(), count).rfind('\n');
    if (newline != std::string_view::npos) return Truncate(begin + newline + 1);
    end = begin;
  }
  return Truncate(0);
}

absl::Status LineFile::Clear() { return Truncate(0); }

absl::Status LineFile::Truncate(uint64_t bytes) {
  ASSIGN_OR_RETURN(const uint64_t all_bytes, Bytes());
  if (bytes == all_bytes) return absl::OkStatus();
  if (ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0) return CannotWrite(path_, errno);
  return Sync();
}

absl::Status LineFile::Append(std::string_view line) {
  CHECK(line.find('\n') == std::string_view::npos);
  RETURN_IF_ERROR(write_error_);
  buffer_.assign(line);
  buffer_ += '\n';
  // One call writes all of it, but on a full disk, under a quota or a signal.
  for (std::string_view rest = buffer_; !rest.empty();) {
    const ssize_t count = write_(file_.get(), rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return write_error_ = CannotWrite(path_, errno);
    rest.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status LineFile::Sync() {
  RETURN_IF_ERROR(write_error_);
  if (fdatasync(file_.get()) == 0) return absl::OkStatus();
  return write_error_ = CannotWrite(path_, errno);
}

}  // namespace stoker
