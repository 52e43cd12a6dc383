// Reads by io_uring: registered files and buffers, one system call for many reads.
#include <fmt/format.h>
#include <liburing.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"
#include "io/block_reader.h"
#include "io/read_queue.h"
#include "io/reader_files.h"

namespace stoker {
namespace {

constexpr size_t kRegisteredBytesMax = size_t{1} << 30;  // the kernel's bound on one buffer
constexpr size_t kReadBytesMax = size_t{1} << 30;  // more comes back as a short read, by contract
constexpr int kRegisteredFilesMax = 256;           // later ones are read by descriptor

std::string MemlockLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "none";
  return FormatBytes(limit.rlim_cur);
}

absl::Status Refusal(int error) {
  std::string_view why = "";
  if (error == ENOSYS) why = " (the kernel has no io_uring, or a container filters it)";
  if (error == EPERM || error == EACCES) {
    why = " (forbidden by sysctl kernel.io_uring_disabled, or by a container's seccomp filter)";
  }
  if (error == ENOMEM) why = " (the memlock limit may be too low: raise 'ulimit -l')";
  return absl::UnavailableError(
      fmt::format("io_uring refused: {}{}", std::generic_category().message(error), why));
}

class UringReader final : public BlockReader {
 public:
  explicit UringReader(const Options& options)
      : depth_(std::clamp(options.queue_depth, 1, 4096)), files_(options.direct), queue_(options) {}
  ~UringReader() override;
  absl::Status Start();

  std::string_view name() const override { return "uring"; }
  absl::StatusOr<int> AddFile(const std::string& path) override;
  size_t alignment(int file) const override { return files_.alignment(file); }
  absl::StatusOr<FileIdentity> Identify(int file) const override { return files_.Identify(file); }
  void RegisterMemory(absl::Span<std::byte> memory) override;
  void Submit(const ReadRequest& request, ReadPriority priority) override;
  bool Promote(uint64_t tag) override { return queue_.Promote(tag); }
  bool Cancel(uint64_t tag) override { return queue_.Cancel(tag); }
  void Kick() override;
  size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) override;
  size_t in_flight() const override { return queue_.in_flight(); }
  std::string notice() const override;
  void Report(CounterVisitor& visitor) const override;

 private:
  void Prepare();
  void PrepareOne(io_uring_sqe* sqe, int slot);
  void Enter(unsigned wait_count);
  void Drain();
  int BufferOf(const ReadRequest& request) const;

  const int depth_;
  ReaderFiles files_;
  ReadQueue queue_;
  io_uring ring_ = {};
  bool is_started_ = false;
  bool has_file_table_ = false;
  std::vector<bool> is_file_registered_;
  std::vector<iovec> buffers_;  // registered, ascending by address; or none
  std::vector<iovec> wanted_buffers_;
  std::string buffer_notice_;
  uint64_t system_calls_ = 0;
};

absl::Status UringReader::Start() {
  const int error = io_uring_queue_init(static_cast<unsigned>(depth_), &ring_, IORING_SETUP_CLAMP);
  if (error < 0) return Refusal(-error);
  is_started_ = true;
  io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
  const bool has_read = probe != nullptr && io_uring_opcode_supported(probe, IORING_OP_READ) != 0;
  io_uring_free_probe(probe);
  if (!has_read) return Refusal(ENOSYS);
  const std::vector<int> none(kRegisteredFilesMax, -1);
  has_file_table_ = io_uring_register_files(&ring_, none.data(), kRegisteredFilesMax) == 0;
  return absl::OkStatus();
}

// The kernel writes into targets until a read is over, so reads are waited for.
UringReader::~UringReader() {
  if (!is_started_) return;
  while (queue_.in_device() > 0) {
    Enter(1);
    Drain();
  }
  io_uring_queue_exit(&ring_);
}

absl::StatusOr<int> UringReader::AddFile(const std::string& path) {
  ASSIGN_OR_RETURN(const int file, files_.Add(path));
  const int descriptor = files_.descriptor(file);
  is_file_registered_.push_back(
      has_file_table_ && file < kRegisteredFilesMax &&
      io_uring_register_files_update(&ring_, static_cast<unsigned>(file), &descriptor, 1) == 1);
  return file;
}

// A ring has one table of buffers, so each call registers all again.
void UringReader::RegisterMemory(absl::Span<std::byte> memory) {
  for (size_t at = 0; at < memory.size(); at += kRegisteredBytesMax) {
    wanted_buffers_.push_back({.iov_base = memory.data() + at,
                               .iov_len = std::min(kRegisteredBytesMax, memory.size() - at)});
  }
  std::sort(wanted_buffers_.begin(), wanted_buffers_.end(),
            [](const iovec& a, const iovec& b) { return a.iov_base < b.iov_base; });
  if (!buffers_.empty()) io_uring_unregister_buffers(&ring_);
  buffers_.clear();
  if (wanted_buffers_.empty()) return;
  const int error = io_uring_register_buffers(&ring_, wanted_buffers_.data(),
                                              static_cast<unsigned>(wanted_buffers_.size()));
  if (error == 0) {
    buffers_ = wanted_buffers_;
    return;
  }
  uint64_t bytes = 0;
  for (const iovec& buffer : wanted_buffers_) bytes += buffer.iov_len;
  buffer_notice_ = fmt::format(
      "io_uring could not register {} of memory ({}; the memlock limit is {}: raise 'ulimit -l'); "
      "reads cost a little more",
      FormatBytes(bytes), std::generic_category().message(-error), MemlockLimit());
}

int UringReader::BufferOf(const ReadRequest& request) const {
  const auto after =
      std::upper_bound(buffers_.begin(), buffers_.end(), request.target,
                       [](const std::byte* target, const iovec& b) { return target < b.iov_base; });
  if (after == buffers_.begin()) return -1;
  const iovec& buffer = *std::prev(after);
  const auto* begin = static_cast<const std::byte*>(buffer.iov_base);
  const auto skip = static_cast<size_t>(request.target - begin);
  // A read across two buffers goes unregistered: at most one slot in each GiB lies so.
  if (skip >= buffer.iov_len || request.bytes > buffer.iov_len - skip) return -1;
  return static_cast<int>(std::prev(after) - buffers_.begin());
}

void UringReader::Submit(const ReadRequest& request, ReadPriority priority) {
  files_.CheckRequest(request);
  queue_.Push(request, priority);
}

void UringReader::PrepareOne(io_uring_sqe* sqe, int slot) {
  const ReadRequest& request = queue_.request(slot);
  const bool is_registered = is_file_registered_[static_cast<size_t>(request.file)];
  const int descriptor = is_registered ? request.file : files_.descriptor(request.file);
  const auto bytes = static_cast<unsigned>(std::min(request.bytes, kReadBytesMax));
  const int buffer = BufferOf(request);
  if (buffer >= 0) {
    io_uring_prep_read_fixed(sqe, descriptor, request.target, bytes, request.offset, buffer);
  } else {
    io_uring_prep_read(sqe, descriptor, request.target, bytes, request.offset);
  }
  if (is_registered) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data64(sqe, static_cast<uint64_t>(slot));
}

// Puts what may enter the device on the submission ring, without a system call.
void UringReader::Prepare() {
  for (int slot = queue_.Enter(); slot >= 0; slot = queue_.Enter()) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {  // the kernel has not taken the last ones yet
      queue_.Retreat(slot);
      return;
    }
    PrepareOne(sqe, slot);
  }
}

// Submits, and waits for `wait_count` completions. What the kernel refuses for now (it is short of
// memory, or completions must be taken first) stays on the ring for the next call.
void UringReader::Enter(unsigned wait_count) {
  if (wait_count == 0 && io_uring_sq_ready(&ring_) == 0) return;
  ++system_calls_;
  const int taken = io_uring_submit_and_wait(&ring_, wait_count);
  if (taken >= 0 || taken == -EINTR) return;
  CHECK(taken == -EAGAIN || taken == -EBUSY || taken == -ENOMEM);
  std::this_thread::yield();
}

void UringReader::Drain() {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
    queue_.Finish(static_cast<int>(io_uring_cqe_get_data64(cqe)), cqe->res);
    io_uring_cqe_seen(&ring_, cqe);
  }
}

void UringReader::Kick() {
  Prepare();
  Enter(0);
}

size_t UringReader::Reap(absl::Span<ReadCompletion> completions, Wait wait) {
  Drain();
  Prepare();
  const auto must_wait = [&] {
    return wait == Wait::kUntilOne && !queue_.has_done() && queue_.in_device() > 0;
  };
  do {  // submits and waits in one system call
    Enter(must_wait() ? 1 : 0);
    Drain();
  } while (must_wait());
  const size_t count = queue_.TakeDone(completions);
  Kick();
  return count;
}

std::string UringReader::notice() const {
  const std::string files = files_.notice();
  if (files.empty() || buffer_notice_.empty()) return files + buffer_notice_;
  return files + "; " + buffer_notice_;
}

void UringReader::Report(CounterVisitor& visitor) const {
  queue_.Report(visitor);
  visitor.Counter("system_calls", system_calls_);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockReader>> MakeUringReader(const BlockReader::Options& options) {
  auto reader = std::make_unique<UringReader>(options);
  RETURN_IF_ERROR(reader->Start());
  return reader;
}

}  // namespace stoker
