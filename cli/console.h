// Where the program speaks: results to stdout, everything else to stderr.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/clock.h"

namespace stoker {

class Console {
 public:
  Console();

  // Silences notes and progress; errors are always said.
  void set_quiet(bool quiet) { quiet_ = quiet; }
  bool quiet() const { return quiet_; }
  bool stdout_is_terminal() const { return stdout_is_terminal_; }
  bool stderr_is_terminal() const { return stderr_is_terminal_; }
  bool stdin_is_terminal() const { return stdin_is_terminal_; }

  // Writes a result and flushes it. Aborted when the reader of stdout left (SIGPIPE is ignored),
  // Internal when it cannot be written (a full disk).
  absl::Status Print(std::string_view text);
  // While held, Print keeps its text for PrintHeld, whose error is that of Print.
  void Hold(bool is_held) { is_held_ = is_held; }
  absl::Status PrintHeld();

  // A line or lines for the operator, on stderr.
  void Note(std::string_view text);
  // "stoker: error: what", the following lines of the message indented below it.
  void Error(const absl::Status& status);

  // Shows how far loading has come, where stderr is a terminal; a few times a second at most.
  void Progress(std::string_view what, uint64_t done_bytes, uint64_t total_bytes);
  // The same with a line of the caller's, which is asked for when it is shown and cut to the width
  // of the terminal.
  void ProgressLine(const std::function<std::string()>& line);
  // Wipes the progress line.
  void EndProgress();

 private:
  absl::Status Write(std::string_view text);
  // Whether the progress line is to be drawn again now.
  bool IsProgressDue();

  RealClock clock_;
  bool quiet_ = false;
  bool is_held_ = false;
  std::string held_;
  bool stdout_is_terminal_ = false;
  bool stderr_is_terminal_ = false;
  bool stdin_is_terminal_ = false;
  bool progress_shown_ = false;
  int64_t progress_start_ns_ = -1;
  int64_t progress_last_ns_ = 0;
};

// One line of progress: "loading  45 %  [=========>          ]  1.20 GiB of 2.53 GiB  1.47 GB/s
// ETA 3 s".
std::string FormatProgress(std::string_view what, uint64_t done_bytes, uint64_t total_bytes,
                           int64_t elapsed_ns);

}  // namespace stoker
