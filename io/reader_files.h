// The open files of a block reader, and whether the page cache could be kept out of the way.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/block_reader.h"
#include "io/file.h"

namespace stoker {

// Opens files with O_DIRECT where the file system grants it, and knows the alignment that it asks
// for. Elsewhere files are read through the page cache without read-ahead, and notice() says so.
class ReaderFiles {
 public:
  explicit ReaderFiles(bool direct) : wants_direct_(direct) {}

  // Returns the file's number, counted from 0. Errors as BlockReader::AddFile.
  absl::StatusOr<int> Add(const std::string& path);

  int descriptor(int file) const { return At(file).descriptor.get(); }
  size_t alignment(int file) const { return At(file).alignment; }
  absl::StatusOr<FileIdentity> Identify(int file) const;
  std::string notice() const;
  // CHECKs a request against BlockReader::Submit's contract.
  void CheckRequest(const ReadRequest& request) const;

 private:
  struct File {
    std::string path;
    FileDescriptor descriptor;
    size_t alignment = 1;
  };
  const File& At(int file) const;
  absl::StatusOr<File> OpenBuffered(const std::string& path, const std::string& why);

  const bool wants_direct_;
  std::vector<File> files_;
  std::string first_refusal_;  // "<path> (<why>)"
  int refusal_count_ = 0;
};

}  // namespace stoker
