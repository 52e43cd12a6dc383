// Files of the operating system: opening, identity, reading at a place, and what errno means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/block_reader.h"

namespace stoker {

// Owns a descriptor; move-only.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// "<what>: <the system's words>" with the code that fits the errno.
absl::Status StatusOfErrno(int error, std::string_view what);

// Opens a regular file for reading; `extra_flags` as of open(2). Anything that is not a regular
// file is InvalidArgument.
absl::StatusOr<FileDescriptor> OpenForReading(const std::string& path, int extra_flags = 0);

// fstat of an open file; `path` is for the message.
absl::StatusOr<FileIdentity> IdentityOf(const FileDescriptor& file, std::string_view path);

// Reads up to `bytes` at `offset`, resuming after short reads and EINTR. Fewer only at the end of
// the file.
absl::StatusOr<size_t> ReadAt(const FileDescriptor& file, uint64_t offset, void* target,
                              size_t bytes, std::string_view path);

}  // namespace stoker
