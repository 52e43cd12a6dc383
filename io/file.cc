// Thin dress over open, fstat and pread.
#include "io/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/status.h"

namespace stoker {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

absl::Status StatusOfErrno(int error, std::string_view what) {
  const std::string message = fmt::format("{}: {}", what, std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case EISDIR:
    case EINVAL:
    case ENAMETOOLONG:
      return absl::InvalidArgumentError(message);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    case EIO:
      return absl::DataLossError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::StatusOr<FileDescriptor> OpenForReading(const std::string& path, int extra_flags) {
  // Looked at before it is opened: opening a FIFO would wait for a writer for ever. O_NONBLOCK is
  // no way out, since io_uring would then fail reads of a regular file with EAGAIN.
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return StatusOfErrno(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: is {}, not a file", path,
                    S_ISDIR(info.st_mode) ? "a directory" : "a pipe, socket or device"));
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | extra_flags);
  if (fd < 0) return StatusOfErrno(errno, path);
  return FileDescriptor(fd);
}

absl::StatusOr<FileIdentity> IdentityOf(const FileDescriptor& file, std::string_view path) {
  struct stat info;
  if (fstat(file.get(), &info) != 0) return StatusOfErrno(errno, path);
  return FileIdentity{
      .device = info.st_dev,
      .inode = info.st_ino,
      .bytes = static_cast<uint64_t>(info.st_size),
      .mtime_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

absl::StatusOr<size_t> ReadAt(const FileDescriptor& file, uint64_t offset, void* target,
                              size_t bytes, std::string_view path) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(file.get(), static_cast<char*>(target) + done, bytes - done,
                              static_cast<off_t>(offset + done));
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return StatusOfErrno(errno, fmt::format("{}: reading at byte {}", path, offset + done));
    }
    done += static_cast<size_t>(got);
  }
  return done;
}

}  // namespace stoker
