// Escape sequences and the size of the terminal.
#include "cli/watch_screen.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "base/status.h"
#include "cli/terminal.h"

namespace stoker {
namespace {

constexpr std::string_view kSave =
                               "\x1b"
                               "7",
                           kRestore =
                               "\x1b"
                               "8";
constexpr std::string_view kDown = "\x1b[B\r";  // to the first column of the next line
constexpr std::string_view kScrollDown =
    "\x1b"
    "D";  // down in the same column; scrolls at the end
constexpr std::string_view kWipeLine = "\x1b[2K", kWipeRest = "\x1b[J";

WatchLook LookOfTerminal(bool is_colored) {
  WatchLook look = {.is_colored = is_colored};
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return look;
  look.columns = size.ws_col;
  if (size.ws_row > 0) look.rows = size.ws_row;
  return look;
}

}  // namespace

std::string DrawBelow(const std::vector<std::string>& lines) {
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) text += kScrollDown;
  text += fmt::format("\x1b[{}A{}", lines.size(), kSave);
  for (const std::string& line : lines) text += fmt::format("{}{}{}", kDown, kWipeLine, line);
  return text + std::string(kRestore);
}

std::string WipeBelow() { return fmt::format("{}{}{}{}", kSave, kDown, kWipeRest, kRestore); }

absl::Status WatchScreen::Check(const Console& console) {
  if (console.stderr_is_terminal()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--watch needs a terminal on standard error\n  likely: it is sent to a file or a pipe\n"
      "  try: --json for each step's record, or --trace for a report afterwards");
}

WatchScreen::WatchScreen(Console& console, const WatchMeter::Weights& weights,
                         const WatchCeilings& ceilings)
    : console_(console), meter_(weights, ceilings), is_colored_(WantsColor(true)) {
  console_.Hold(console_.stdout_is_terminal());
}

WatchScreen::~WatchScreen() { Finish().IgnoreError(); }

absl::Status WatchScreen::Update(const StepRecord& step) {
  meter_.Add(step);
  const int64_t now_ns = clock_.NowNs();
  if (is_shown_ && now_ns - drawn_ns_ < kFrameNs) return absl::OkStatus();
  drawn_ns_ = now_ns;
  if (is_shown_) Write(WipeBelow());
  RETURN_IF_ERROR(console_.PrintHeld());
  Write(DrawBelow(RenderWatch(meter_.NextFrame(), LookOfTerminal(is_colored_))));
  is_shown_ = true;
  return absl::OkStatus();
}

absl::Status WatchScreen::Finish() {
  if (is_shown_) Write(WipeBelow());
  is_shown_ = false;
  console_.Hold(false);
  return console_.PrintHeld();
}

void WatchScreen::Write(const std::string& text) const {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace stoker
