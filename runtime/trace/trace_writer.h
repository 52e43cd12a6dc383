// Appends blocks of records to a trace file through a buffer of fixed size.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/file.h"
#include "runtime/trace/trace_file.h"

namespace stoker {

// One thread. Allocates nothing after Create and makes no system call but in Flush, once a buffer,
// and when the buffer is full. An error of writing (a full disk) ends the writing for good: what is
// whole in the file stays readable, later records are dropped, and status() says what happened.
class TraceWriter {
 public:
  // Where the buffer is mostly empty again before it is full.
  static constexpr size_t kFlushBytes = size_t{64} << 10;
  static constexpr size_t kBufferBytes = size_t{256} << 10;
  // Of one record's payload.
  static constexpr size_t kRecordBytesMax = size_t{32} << 10;

  // Makes the file with its header block, under another name first, so that whoever kills the
  // process leaves a readable file or none. Replaces a former trace. InvalidArgument when `path` is
  // another kind of file, or cannot be made.
  static absl::StatusOr<std::unique_ptr<TraceWriter>> Create(const std::string& path,
                                                             std::string_view header);
  // Closes the file with an end block.
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  // Where a record's payload of at most `bytes_max` goes; End takes the end of what was put there.
  uint8_t* Begin(TraceRecord kind, size_t bytes_max);
  void End(const uint8_t* end);
  // The running step is whole: for the end block.
  void EndStep() { ++step_count_; }

  size_t buffered_bytes() const { return used_; }
  // Writes what is buffered as one block.
  void Flush();

  uint64_t written_bytes() const { return written_bytes_; }
  const absl::Status& status() const { return status_; }

 private:
  TraceWriter(std::string path, FileDescriptor file);
  absl::Status WriteHeader(std::string_view header);
  void WriteBlock(TraceBlock kind, size_t payload_bytes);
  absl::Status WriteAll(const uint8_t* data, size_t bytes);
  bool IsBeyondLimit(size_t bytes) const;
  void GiveUp(const absl::Status& error);

  const std::string path_;
  FileDescriptor file_;
  uint64_t bytes_limit_ = 0;     // of the file, by the process's limits
  std::vector<uint8_t> buffer_;  // room for a block's head, then records
  size_t used_ = 0;              // of the records
  uint8_t* payload_ = nullptr;   // of the record begun
  size_t length_bytes_ = 0;      // of its length field
  uint64_t block_count_ = 0;
  uint64_t step_count_ = 0;
  uint64_t written_bytes_ = 0;
  absl::Status status_;
};

}  // namespace stoker
