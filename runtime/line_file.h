// A file that grows by whole lines, and that a process killed at any byte leaves usable.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/file.h"

namespace stoker {

// Each line enters with one write(2), its newline last: what a killed process leaves is whole lines
// and at most the beginning of one more, which is told by the newline that it lacks. One process at
// a time has the file; one thread.
class LineFile {
 public:
  // As write(2); a test puts one here that stops at a byte.
  using Write = std::function<ssize_t(int file, const char* bytes, size_t count)>;

  // Opens or creates the file, and changes nothing in it. InvalidArgument: it cannot be opened, or
  // is no regular file. FailedPrecondition: another process has it.
  static absl::StatusOr<LineFile> Open(const std::string& path, Write write = {});

  absl::StatusOr<uint64_t> Bytes() const;
  // Visits the whole lines, in order, without their newlines; ends with the first error.
  absl::Status ForEach(const std::function<absl::Status(std::string_view line)>& visit) const;

  // Removes what follows the last newline.
  absl::Status CutTornLine();
  absl::Status Clear();
  // Adds a line, given without its newline; Internal when it cannot be written. After an error the
  // file may end in a part of it, and every later call gives the same error. Requires a file
  // without a torn line, and no newline in `line`.
  absl::Status Append(std::string_view line);
  // Returns when all lines would outlive a loss of power.
  absl::Status Sync();

 private:
  LineFile(std::string path, FileDescriptor file, Write write);
  absl::Status Truncate(uint64_t bytes);

  std::string path_;
  FileDescriptor file_;
  Write write_;
  std::string buffer_;
  absl::Status write_error_;
};

}  // namespace stoker
