// The answers of a batch: a file of JSON lines that a killed run leaves so that the next goes on
// from it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/batch/batch_input.h"
#include "cli/batch/batch_record.h"
#include "runtime/engine.h"
#include "runtime/line_file.h"

namespace stoker {

// What became of a prompt.
struct BatchAnswer {
  std::string text;
  FinishReason finish = FinishReason::kNone;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

// One line an answer, in the order in which they are ready:
//   {"id": 7, "line": 3, "text": "...", "finish": "length", "prompt_tokens": 5,
//    "generated_tokens": 16, "seed": 1, "request": "00112233aabbccdd"}
// or, of a prompt that cannot be run, "error" in place of what lies between "line" and "request".
// `line` is the prompt's line of the input, `request` that line's hash.
//
// Beside a file that is not empty lies the record of the run that began it (written first, whole or
// not at all). So at every moment the next run can tell a torn line, which it cuts off, from a file
// that is none of ours, which it leaves alone.
class BatchOutput {
 public:
  struct Options {
    bool restart = false;   // begin anew, if the file is a batch's
    LineFile::Write write;  // as LineFile
  };
  // Opens or creates the file, finds what it has answered already, and cuts a torn line off.
  // InvalidArgument, the file untouched: it is the input, another model's or options' (named), no
  // batch's, or has a line that answers none of the input's (named). Otherwise the errors of
  // LineFile.
  static absl::StatusOr<BatchOutput> Open(const std::string& path, const BatchInput& input,
                                          const BatchRecord& record, const Options& options);

  int64_t prompt_count() const { return static_cast<int64_t>(is_done_.size()); }
  int64_t done_count() const { return done_count_; }      // answers and errors
  int64_t failed_count() const { return failed_count_; }  // errors among them
  bool IsDone(int64_t index) const { return is_done_[static_cast<size_t>(index)]; }
  // "line 7: the prompt of ...": the first error in the file; empty: none.
  const std::string& first_failure() const { return first_failure_; }

  // Writes what became of the prompt at `index` of the input, once each. The errors of
  // LineFile::Append.
  absl::Status PutAnswer(int64_t index, const BatchRequest& request, const BatchAnswer& answer);
  absl::Status PutError(int64_t index, const BatchRequest& request, std::string_view error);
  absl::Status Sync() { return file_.Sync(); }

 private:
  BatchOutput(std::string path, const BatchInput& input, LineFile file);
  absl::Status Begin(const BatchRecord& record);
  absl::Status Resume(const BatchRecord& record);
  absl::Status TakeLine(std::string_view text, int64_t number);
  // `line` with its newline; `error` as of MarkDone.
  absl::Status Put(int64_t index, std::string_view line, std::string_view error);
  // `error`: empty for a text.
  void MarkDone(int64_t index, std::string_view error);

  std::string path_;
  const BatchInput* input_;
  LineFile file_;
  std::vector<bool> is_done_;  // by index
  int64_t done_count_ = 0;
  int64_t failed_count_ = 0;
  std::string first_failure_;
};

}  // namespace stoker
