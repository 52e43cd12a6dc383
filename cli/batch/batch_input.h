// The prompts of a batch: a file of JSON lines, checked whole before anything runs.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/batch/batch_request.h"

namespace stoker {

// A hash (XXH3) of a line without its line ending, by which an output knows what it answers.
uint64_t HashOfLine(std::string_view text);

// Holds where each prompt's line lies, not the prompts: 32 bytes a prompt. Blank lines count as
// lines and are no prompts. One thread.
class BatchInput {
 public:
  struct Line {
    int64_t number = 0;  // from 1
    int64_t offset_bytes = 0;
    int64_t bytes = 0;
    uint64_t hash = 0;
  };

  // Reads the file once. InvalidArgument: a file that cannot be read or is none, holds no prompt,
  // or has a line that ParseBatchRequest refuses ("prompts.jsonl:3: ...").
  static absl::StatusOr<BatchInput> Open(const std::string& path, const BatchDefaults& defaults);

  const std::string& path() const { return path_; }
  const std::vector<Line>& lines() const { return lines_; }  // those with a prompt, in order
  // The index in lines() of a line by its number; -1: none with a prompt.
  int64_t IndexOf(int64_t number) const;
  // The prompt of lines()[index]. InvalidArgument when the file has changed since it was opened.
  absl::StatusOr<BatchRequest> Read(int64_t index) const;

 private:
  using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
  BatchInput(std::string path, BatchDefaults defaults, File file);
  absl::Status ReadLines();

  std::string path_;
  BatchDefaults defaults_;
  File file_;
  std::vector<Line> lines_;
};

}  // namespace stoker
