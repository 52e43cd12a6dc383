// Where the program speaks: results to stdout, everything else to stderr.
#include "cli/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "cli/terminal.h"

namespace stoker {
namespace {

constexpr int64_t kProgressIntervalNs = 100'000'000;  // ten a second: smooth, and costs nothing
constexpr int kProgressWidth = 20;

}  // namespace

Console::Console()
    : stdout_is_terminal_(isatty(STDOUT_FILENO) != 0),
      stderr_is_terminal_(isatty(STDERR_FILENO) != 0),
      stdin_is_terminal_(isatty(STDIN_FILENO) != 0) {}

absl::Status Console::Print(std::string_view text) {
  if (!is_held_) return Write(text);
  held_ += text;
  return absl::OkStatus();
}

absl::Status Console::PrintHeld() {
  if (held_.empty()) return absl::OkStatus();
  const std::string text = std::exchange(held_, {});
  return Write(text);
}

absl::Status Console::Write(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  if (errno == EPIPE) return absl::AbortedError("the reader of the output is gone");
  return absl::InternalError(
      fmt::format("cannot write the output: {}\n  likely: the disk or quota behind stdout is full\n"
                  "  try: free some space, or send the output elsewhere",
                  std::strerror(errno)));
}

void Console::Note(std::string_view text) {
  if (quiet_) return;
  EndProgress();
  std::fwrite(text.data(), 1, text.size(), stderr);
  if (text.empty() || text.back() != '\n') std::fputc('\n', stderr);
}

void Console::Error(const absl::Status& status) {
  EndProgress();
  fmt::print(stderr, "stoker: error: {}\n", MessageOf(status));
}

void Console::Progress(std::string_view what, uint64_t done_bytes, uint64_t total_bytes) {
  if (total_bytes == 0 || !IsProgressDue()) return;
  fmt::print(stderr, "\r{}\x1b[K",
             FormatProgress(what, done_bytes, total_bytes, progress_last_ns_ - progress_start_ns_));
  std::fflush(stderr);
}

void Console::ProgressLine(const std::function<std::string()>& line) {
  if (!IsProgressDue()) return;
  const size_t width = static_cast<size_t>(std::max(1, TerminalColumns() - 1));
  fmt::print(stderr, "\r{}\x1b[K", line().substr(0, width));
  std::fflush(stderr);
}

bool Console::IsProgressDue() {
  if (quiet_ || !stderr_is_terminal_) return false;
  const int64_t now_ns = clock_.NowNs();
  if (progress_start_ns_ < 0) progress_start_ns_ = now_ns;
  if (progress_shown_ && now_ns - progress_last_ns_ < kProgressIntervalNs) return false;
  progress_last_ns_ = now_ns;
  progress_shown_ = true;
  return true;
}

void Console::EndProgress() {
  if (!progress_shown_) return;
  std::fputs("\r\x1b[K", stderr);
  progress_shown_ = false;
  progress_start_ns_ = -1;
}

std::string FormatProgress(std::string_view what, uint64_t done_bytes, uint64_t total_bytes,
                           int64_t elapsed_ns) {
  const double share = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
  const int filled = static_cast<int>(share * kProgressWidth);
  std::string bar(static_cast<size_t>(filled), '=');
  bar.resize(kProgressWidth, ' ');
  std::string line = fmt::format("{}  {:3.0f} %  [{}]  {} of {}", what, share * 100, bar,
                                 FormatBytes(done_bytes), FormatBytes(total_bytes));
  if (elapsed_ns > 0 && done_bytes > 0) {
    const double per_second =
        static_cast<double>(done_bytes) * 1e9 / static_cast<double>(elapsed_ns);
    const double left_ns = static_cast<double>(total_bytes - done_bytes) / per_second * 1e9;
    line += fmt::format("  {}  ETA {}", FormatRate(per_second),
                        FormatDuration(static_cast<int64_t>(left_ns)));
  }
  return line;
}

}  // namespace stoker
