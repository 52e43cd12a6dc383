// Asks for O_DIRECT, and finds out by a probe whether it was meant.
#include "io/reader_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace stoker {
namespace {

constexpr size_t kDirectAlignmentDefault = 4096;
constexpr size_t kAlignmentMax = 64 << 10;
constexpr long kTmpfsMagic = 0x01021994;  // linux/magic.h

struct DirectVerdict {
  size_t alignment = 0;  // 0: refused
  std::string why;
};

// What the kernel says of direct reads of a file (Linux 6.1 and later), as {known, alignment}.
// statx is called by number: C libraries older than the field hide it.
std::pair<bool, size_t> DirectAlignment(int fd) {
  struct statx info = {};
  constexpr unsigned kWanted = 0x2000;  // STATX_DIOALIGN
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kWanted, &info) != 0) return {false, 0};
  if ((info.stx_mask & kWanted) == 0) return {false, 0};
  return {true, std::max(info.stx_dio_mem_align, info.stx_dio_offset_align)};
}

// tmpfs accepts O_DIRECT (Linux 6.6) and reads from the page cache nevertheless; others accept it
// at open and fail at the first read.
DirectVerdict JudgeDirect(int fd) {
  struct statfs system = {};
  if (fstatfs(fd, &system) == 0 && static_cast<long>(system.f_type) == kTmpfsMagic) {
    return {.alignment = 0, .why = "it lies in memory, on tmpfs"};
  }
  auto [is_known, alignment] = DirectAlignment(fd);
  if (!is_known) alignment = kDirectAlignmentDefault;
  if (!std::has_single_bit(alignment)) {
    return {.alignment = 0, .why = "the file system does not support it"};
  }
  if (alignment > kAlignmentMax) {
    return {.alignment = 0, .why = fmt::format("it asks for alignment to {} bytes", alignment)};
  }
  const size_t bytes = std::max(alignment, kDirectAlignmentDefault);
  const std::unique_ptr<void, decltype(&std::free)> probe(std::aligned_alloc(bytes, bytes),
                                                          &std::free);
  if (pread(fd, probe.get(), bytes, 0) < 0 && errno != EINTR) {
    return {.alignment = 0, .why = std::generic_category().message(errno)};
  }
  return {.alignment = alignment, .why = {}};
}

}  // namespace

const ReaderFiles::File& ReaderFiles::At(int file) const {
  CHECK(file >= 0 && static_cast<size_t>(file) < files_.size());
  return files_[static_cast<size_t>(file)];
}

absl::StatusOr<ReaderFiles::File> ReaderFiles::OpenBuffered(const std::string& path,
                                                            const std::string& why) {
  ASSIGN_OR_RETURN(FileDescriptor descriptor, OpenForReading(path));
  // Read-ahead would fetch bytes of experts that nobody asked for.
  (void)posix_fadvise(descriptor.get(), 0, 0, POSIX_FADV_RANDOM);
  if (!why.empty() && refusal_count_++ == 0) first_refusal_ = fmt::format("{} ({})", path, why);
  return File{.path = path, .descriptor = std::move(descriptor), .alignment = 1};
}

absl::StatusOr<int> ReaderFiles::Add(const std::string& path) {
  std::string why;
  if (wants_direct_) {
    absl::StatusOr<FileDescriptor> direct = OpenForReading(path, O_DIRECT);
    if (direct.ok()) {
      DirectVerdict verdict = JudgeDirect(direct->get());
      if (verdict.alignment > 0) {
        files_.push_back(
            {.path = path, .descriptor = *std::move(direct), .alignment = verdict.alignment});
        return static_cast<int>(files_.size()) - 1;
      }
      why = std::move(verdict.why);
    } else {
      why = "the file system does not support it";
    }
  }
  ASSIGN_OR_RETURN(File file, OpenBuffered(path, why));
  files_.push_back(std::move(file));
  return static_cast<int>(files_.size()) - 1;
}

absl::StatusOr<FileIdentity> ReaderFiles::Identify(int file) const {
  return IdentityOf(At(file).descriptor, At(file).path);
}

std::string ReaderFiles::notice() const {
  if (refusal_count_ == 0) return {};
  const std::string others =
      refusal_count_ == 1 ? "" : fmt::format(" and {} other files", refusal_count_ - 1);
  return fmt::format(
      "O_DIRECT refused by {}{}; reading through the page cache, slower and beside the budget",
      first_refusal_, others);
}

void ReaderFiles::CheckRequest(const ReadRequest& request) const {
  const size_t alignment = At(request.file).alignment;
  CHECK(request.bytes > 0);
  CHECK(request.offset % alignment == 0 && request.bytes % alignment == 0);
  CHECK(reinterpret_cast<uintptr_t>(request.target) % alignment == 0);
}

}  // namespace stoker
