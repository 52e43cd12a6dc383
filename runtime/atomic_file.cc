// Write beside, sync, rename, sync the folder.
#include "runtime/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/status.h"
#include "io/file.h"

namespace stoker {
namespace {

absl::Status BeingWritten(const std::string& path) {
  return absl::AbortedError(fmt::format("{} is being written by another process", path));
}

// The file beside, empty and ours alone.
absl::StatusOr<FileDescriptor> OpenBeside(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (file.get() < 0) return StatusOfErrno(errno, fmt::format("writing {}", path));
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) return BeingWritten(path);
  // Between the opening and the lock another process may have renamed the file: what is locked then
  // is its result, not to be touched.
  struct stat ours = {}, named = {};
  const bool is_found = fstat(file.get(), &ours) == 0 && stat(path.c_str(), &named) == 0;
  if (!is_found || ours.st_ino != named.st_ino) return BeingWritten(path);
  if (ftruncate(file.get(), 0) != 0) {
    return StatusOfErrno(errno, fmt::format("writing {}", path));
  }
  return file;
}

absl::Status WriteAll(const FileDescriptor& file, const std::string& path, std::string_view bytes,
                      const std::function<void(FileStep)>& before) {
  while (!bytes.empty()) {
    before(FileStep::kWrite);
    const ssize_t count =
        write(file.get(), bytes.data(), std::min(bytes.size(), kReplaceChunkBytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return StatusOfErrno(errno, fmt::format("writing {}", path));
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status Sync(const FileDescriptor& file, const std::string& path) {
  if (file.get() >= 0 && fsync(file.get()) == 0) return absl::OkStatus();
  return StatusOfErrno(errno, fmt::format("syncing {}", path));
}

}  // namespace

absl::Status ReplaceFile(const std::string& path, std::string_view bytes,
                         const std::function<void(FileStep)>& before_or_empty) {
  const std::function<void(FileStep)> before = before_or_empty ? before_or_empty : [](FileStep) {};
  const std::string beside = path + ".new";
  before(FileStep::kOpen);
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenBeside(beside));
  RETURN_IF_ERROR(WriteAll(file, beside, bytes, before));
  before(FileStep::kSync);
  RETURN_IF_ERROR(Sync(file, beside));
  before(FileStep::kRename);
  if (std::rename(beside.c_str(), path.c_str()) != 0) {
    return StatusOfErrno(errno, fmt::format("renaming {} to {}", beside, path));
  }
  before(FileStep::kSyncFolder);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const std::string folder_or_here = folder.empty() ? "." : folder;
  const FileDescriptor opened(open(folder_or_here.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  RETURN_IF_ERROR(Sync(opened, folder_or_here));
  before(FileStep::kDone);
  return absl::OkStatus();
}

}  // namespace stoker
