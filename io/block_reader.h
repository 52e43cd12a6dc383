// Asynchronous positional reads from files into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/counters.h"

namespace stoker {

// Order of service. A demand read is one that a step waits for; a hint is a guess.
enum class ReadPriority : uint8_t { kDemand, kHint };

struct ReadRequest {
  int file = 0;                 // as AddFile returned it
  uint64_t offset = 0;          // bytes; multiple of alignment(file)
  std::byte* target = nullptr;  // aligned to alignment(file)
  size_t bytes = 0;             // multiple of alignment(file); may reach past the end of the file
  uint64_t tag = 0;             // comes back with the completion; distinct among reads under way
};

struct ReadCompletion {
  uint64_t tag = 0;
  // Bytes read (fewer than asked: a short read, the end of the file among the causes), or a
  // negative errno. A cancelled hint gives -ECANCELED.
  int64_t result = 0;
};

// What a file was when it was opened. A reader's owner compares it with later looks (Identify) to
// notice files that shrink, grow or are replaced while open.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;
  int64_t mtime_ns = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// Reads blocks. A read neither retries nor resumes: completions say what the world did, and the
// owner decides (the expert loader resumes short reads and retries transient errors). One thread
// uses a reader.
//
// Demand goes before hints: a hint enters the device only while no demand is waiting to enter and
// fewer than `hint_depth` hints are in it; until then it can be cancelled. Nothing blocks but Reap
// with Wait::kUntilOne.
class BlockReader {
 public:
  struct Options {
    int queue_depth = 64;    // reads in the device at once
    int hint_depth = 4;      // of those, hints
    int backlog_max = 4096;  // reads accepted and not yet completed
    bool direct = true;  // O_DIRECT; where it is refused the file is read through the page cache,
                         // said by notice()
  };
  enum class Wait : uint8_t { kNo, kUntilOne };

  virtual ~BlockReader() = default;

  virtual std::string_view name() const = 0;  // "uring", "pread"
  // Opens a file for reading. Errors: NotFound, PermissionDenied, or what open(2) said.
  virtual absl::StatusOr<int> AddFile(const std::string& path) = 0;
  // Bytes to which offset, target and length of a read of this file must be aligned; 1 if nothing
  // is required. A power of two, at most 4096 on every file system we know.
  virtual size_t alignment(int file) const = 0;
  // The file as it is now (fstat). FailedPrecondition is the caller's to raise when it differs from
  // an earlier look.
  virtual absl::StatusOr<FileIdentity> Identify(int file) const = 0;
  // Declares memory that many reads will target, so that it can be registered with the kernel
  // (fixed buffers). Optional; failure to register is not an error (slower, said by notice()). Must
  // outlive the reader's reads.
  virtual void RegisterMemory(absl::Span<std::byte> memory) = 0;

  // Queues a read. Requires fewer than backlog_max under way. Submission to the kernel happens at
  // Kick or Reap.
  virtual void Submit(const ReadRequest& request, ReadPriority priority) = 0;
  // Turns a queued hint into demand, or forgets a hint that has not entered the device (it
  // completes with -ECANCELED). Both return false when it is too late or the tag is unknown.
  virtual bool Promote(uint64_t tag) = 0;
  virtual bool Cancel(uint64_t tag) = 0;
  // Hands queued reads to the kernel, as far as the depths allow.
  virtual void Kick() = 0;
  // Takes completions, at most completions.size(); returns how many. kUntilOne blocks until there
  // is one, unless nothing is under way (then 0). Also kicks.
  virtual size_t Reap(absl::Span<ReadCompletion> completions, Wait wait) = 0;
  // Reads accepted and not yet reaped.
  virtual size_t in_flight() const = 0;
  // A sentence about what was asked for and could not be had ("O_DIRECT refused by ...; reading
  // through the page cache"), or empty. For the operator.
  virtual std::string notice() const = 0;
  virtual void Report(CounterVisitor& visitor) const = 0;
};

// The aligned read that covers [offset, offset + bytes): read `bytes` at `offset`, the wanted data
// starts `skip` bytes in.
struct AlignedRange {
  uint64_t offset = 0;
  size_t bytes = 0;
  size_t skip = 0;
};
AlignedRange CoverAligned(uint64_t offset, size_t bytes, size_t alignment);

// io_uring. Unavailable when the kernel refuses it (old kernel, seccomp, sysctl io_uring_disabled,
// memlock limit), with the reason.
absl::StatusOr<std::unique_ptr<BlockReader>> MakeUringReader(const BlockReader::Options& options);
// A few threads calling pread(2); works everywhere.
std::unique_ptr<BlockReader> MakePreadReader(const BlockReader::Options& options);

struct BlockReaderChoice {
  std::unique_ptr<BlockReader> reader;
  std::string notice;  // why the preferred one was not taken, or empty
};
// kind: "uring" (an error if refused), "pread", or "auto" (io_uring, else pread with a notice).
absl::StatusOr<BlockReaderChoice> MakeBlockReader(std::string_view kind,
                                                  const BlockReader::Options& options);

}  // namespace stoker
