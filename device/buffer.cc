// Maps, aligns for huge pages, and touches.
#include "device/buffer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/units.h"
#include "device/topology.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; older kernels say EINVAL
#endif

namespace stoker {
namespace {

constexpr size_t kHugePageBytes = 2 << 20;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// For the system, or for this process.
bool AreHugePagesOff() {
  if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1) return true;
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  return !std::getline(file, line) || line.find("[never]") != std::string::npos;
}

absl::Status Refused(size_t bytes, std::string_view why) {
  return absl::ResourceExhaustedError(
      fmt::format("cannot take {} of memory: {}; ask for less", FormatBytes(bytes), why));
}

// Maps `bytes` (whole pages) at an address that huge pages need, or MAP_FAILED with errno.
void* MapAligned(size_t bytes, size_t alignment) {
  const size_t slack = alignment > PageBytes() ? alignment : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || slack == 0) return mapped;
  const auto begin = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t aligned = RoundUp(begin, alignment);
  if (aligned > begin) munmap(mapped, aligned - begin);
  const size_t tail = begin + slack - aligned;
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  return reinterpret_cast<void*>(aligned);
}

// Makes every page resident. The kernel says when it has none left, where touching would kill the
// process; kernels that cannot are touched anyway.
absl::Status Populate(std::byte* data, size_t bytes) {
  int error = 0;
  do {
    error = madvise(data, bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
  } while (error == EINTR || error == EAGAIN);
  if (error == EINVAL) {
    for (size_t at = 0; at < bytes; at += PageBytes()) {
      *static_cast<volatile std::byte*>(data + at) = std::byte{0};
    }
    return absl::OkStatus();
  }
  return error == 0 ? absl::OkStatus() : Refused(bytes, std::generic_category().message(error));
}

}  // namespace

absl::StatusOr<HostBuffer> HostBuffer::Create(size_t bytes, Touch touch) {
  HostBuffer buffer;
  if (bytes == 0) return buffer;
  if (bytes > (size_t{1} << 62)) return Refused(bytes, "no machine has that much");
  if (touch == Touch::kNow) {
    // A cgroup's limit is not refused by the kernel but enforced by killing, so it is asked first.
    const MemoryLimits limits = ReadMemoryLimits();
    if (bytes > limits.available_bytes) {
      return Refused(bytes, fmt::format("only {} are available ({})",
                                        FormatBytes(limits.available_bytes), limits.source));
    }
  }
  const size_t mapped_bytes = RoundUp(bytes, PageBytes());
  const bool is_large = bytes >= kHugePageBytes;
  void* mapped = MapAligned(mapped_bytes, is_large ? kHugePageBytes : PageBytes());
  if (mapped == MAP_FAILED) {
    return Refused(bytes, fmt::format("{} (a limit on address space, 'ulimit -v', may be set)",
                                      std::generic_category().message(errno)));
  }
  buffer.data_ = static_cast<std::byte*>(mapped);
  buffer.bytes_ = bytes;
  if (!is_large) {
    buffer.pages_ = "4 KiB pages";
  } else if (AreHugePagesOff() || madvise(mapped, mapped_bytes, MADV_HUGEPAGE) != 0) {
    buffer.pages_ = "4 KiB pages (transparent huge pages are off)";
  } else {
    buffer.pages_ = "transparent huge pages";
  }
  if (touch == Touch::kNow) {
    absl::Status status = Populate(buffer.data_, mapped_bytes);
    if (!status.ok()) return status;
  }
  return buffer;
}

HostBuffer::~HostBuffer() {
  if (data_ != nullptr) munmap(data_, RoundUp(bytes_, PageBytes()));
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      pages_(std::move(other.pages_)) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(pages_, other.pages_);
  return *this;
}

}  // namespace stoker
