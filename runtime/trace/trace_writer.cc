// Blocks: filled in memory, hashed and written whole.
#include "runtime/trace/trace_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"

namespace stoker {
namespace {

constexpr std::string_view kNewEnding = ".new";

void PutLittle(uint8_t* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

// The head of a block in front of its payload.
void PutHead(uint8_t* block, TraceBlock kind, size_t payload_bytes, uint64_t number) {
  PutLittle(block, payload_bytes, 4);
  PutLittle(block + 4, static_cast<uint64_t>(kind), 4);
  PutLittle(block + 8,
            XXH3_64bits_withSeed(block + kTraceBlockHeadBytes, payload_bytes,
                                 TraceBlockSeed(number, kind, payload_bytes)),
            8);
}

// What `path` is now: nothing or a trace may be replaced, something that is no regular file (a
// pipe) is written to as it is.
enum class Target : uint8_t { kReplace, kWriteInPlace };

absl::StatusOr<Target> LookAtTarget(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return Target::kReplace;
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is a folder\n  try: the name of a file in it", path));
  }
  if (!S_ISREG(info.st_mode)) return Target::kWriteInPlace;
  if (info.st_size == 0) return Target::kReplace;
  ASSIGN_OR_RETURN(const FileDescriptor file, OpenForReading(path));
  char magic[kTraceMagic.size()] = {};
  ASSIGN_OR_RETURN(const size_t bytes, ReadAt(file, 0, magic, sizeof(magic), path));
  // Of any version: all but the last digit.
  if (std::string_view(magic, bytes).substr(0, kTraceMagic.size() - 1) ==
      kTraceMagic.substr(0, kTraceMagic.size() - 1)) {
    return Target::kReplace;
  }
  return absl::InvalidArgumentError(fmt::format(
      "{} is there already and is no trace: it is not overwritten\n  try: another name", path));
}

}  // namespace

TraceWriter::TraceWriter(std::string path, FileDescriptor file)
    : path_(std::move(path)), file_(std::move(file)), buffer_(kTraceBlockHeadBytes + kBufferBytes) {
  // Writing beyond it would end the process by a signal.
  rlimit limit = {};
  bytes_limit_ = getrlimit(RLIMIT_FSIZE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

TraceWriter::~TraceWriter() {
  Flush();
  uint8_t* const payload = buffer_.data() + kTraceBlockHeadBytes;
  WriteBlock(TraceBlock::kEnd, static_cast<size_t>(PutVarint(payload, step_count_) - payload));
}

absl::StatusOr<std::unique_ptr<TraceWriter>> TraceWriter::Create(const std::string& path,
                                                                 std::string_view header) {
  ASSIGN_OR_RETURN(const Target target, LookAtTarget(path));
  const bool is_new = target == Target::kReplace;
  const std::string opened = is_new ? fmt::format("{}{}", path, kNewEnding) : path;
  const int flags = O_WRONLY | O_CLOEXEC | (is_new ? O_CREAT | O_TRUNC : 0);
  FileDescriptor file(open(opened.c_str(), flags, 0644));
  if (file.get() < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "{} cannot be written: {}: its folder is not there, or is another user's\n  try: a path in "
        "a folder of yours",
        path, std::strerror(errno)));
  }
  std::unique_ptr<TraceWriter> writer(new TraceWriter(path, std::move(file)));
  if (const absl::Status written = writer->WriteHeader(header); !written.ok()) {
    if (is_new) std::remove(opened.c_str());
    return written;
  }
  if (is_new && std::rename(opened.c_str(), path.c_str()) != 0) {
    return StatusOfErrno(errno, fmt::format("renaming {} to {}", opened, path));
  }
  return writer;
}

absl::Status TraceWriter::WriteHeader(std::string_view header) {
  CHECK(header.size() <= kTraceBlockBytesMax);
  std::vector<uint8_t> bytes(kTraceMagic.size() + kTraceBlockHeadBytes + header.size());
  std::memcpy(bytes.data(), kTraceMagic.data(), kTraceMagic.size());
  uint8_t* const block = bytes.data() + kTraceMagic.size();
  std::memcpy(block + kTraceBlockHeadBytes, header.data(), header.size());
  PutHead(block, TraceBlock::kHeader, header.size(), block_count_++);
  const absl::Status status = WriteAll(bytes.data(), bytes.size());
  if (!status.ok()) GiveUp(status);
  return status_;
}

uint8_t* TraceWriter::Begin(TraceRecord kind, size_t bytes_max) {
  CHECK(bytes_max <= kRecordBytesMax && payload_ == nullptr);
  length_bytes_ = bytes_max < 0x80 ? 1 : bytes_max < 0x4000 ? 2 : 3;
  if (used_ + 1 + length_bytes_ + bytes_max > kBufferBytes) Flush();
  uint8_t* const record = buffer_.data() + kTraceBlockHeadBytes + used_;
  *record = static_cast<uint8_t>(kind);
  payload_ = record + 1 + length_bytes_;
  return payload_;
}

void TraceWriter::End(const uint8_t* end) {
  // The length in as many bytes as were left for it: the top bit of each but the last is set.
  auto length = static_cast<uint64_t>(end - payload_);
  uint8_t* field = payload_ - length_bytes_;
  for (size_t i = 1; i < length_bytes_; ++i, length >>= 7) {
    *field++ = static_cast<uint8_t>(length | 0x80);
  }
  *field = static_cast<uint8_t>(length);
  used_ = static_cast<size_t>(end - (buffer_.data() + kTraceBlockHeadBytes));
  payload_ = nullptr;
}

void TraceWriter::Flush() {
  if (used_ > 0) WriteBlock(TraceBlock::kSteps, used_);
  used_ = 0;
}

void TraceWriter::WriteBlock(TraceBlock kind, size_t payload_bytes) {
  if (!status_.ok()) return;
  PutHead(buffer_.data(), kind, payload_bytes, block_count_++);
  const absl::Status status = WriteAll(buffer_.data(), kTraceBlockHeadBytes + payload_bytes);
  if (!status.ok()) GiveUp(status);
}

bool TraceWriter::IsBeyondLimit(size_t bytes) const {
  return bytes_limit_ != RLIM_INFINITY && written_bytes_ + bytes > bytes_limit_;
}

absl::Status TraceWriter::WriteAll(const uint8_t* data, size_t bytes) {
  const uint64_t before_bytes = written_bytes_;
  for (size_t done = 0; done < bytes;) {
    const ssize_t count = IsBeyondLimit(bytes - done)
                              ? -(errno = EFBIG, 1)
                              : write(file_.get(), data + done, bytes - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : EIO;
      written_bytes_ = before_bytes;
      return StatusOfErrno(
          error, fmt::format("the trace {} ends after {}", path_, FormatBytes(written_bytes_)));
    }
    done += static_cast<size_t>(count);
    written_bytes_ += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

void TraceWriter::GiveUp(const absl::Status& error) {
  status_ = error;
  // So that no half of a block is left; where that fails too, a reader passes over it.
  if (ftruncate(file_.get(), static_cast<off_t>(written_bytes_)) != 0) errno = 0;
}

}  // namespace stoker
