// The lines of --watch on a terminal, below the text that is being generated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cli/console.h"
#include "cli/watch.h"

namespace stoker {

// What brings the lines below the cursor and the cursor back to where it was: it makes room by
// scrolling if there is none. No line may be as wide as the terminal.
std::string DrawBelow(const std::vector<std::string>& lines);
// What wipes them, the cursor staying where it is. Only after DrawBelow.
std::string WipeBelow();

// Redraws at most five times a second. The terminal is never put into a mode: there is nothing to
// restore but the lines, which the destructor wipes. While lines are shown, text that goes to the
// same terminal is held back until the next redraw, so that the two do not mix.
class WatchScreen {
 public:
  // InvalidArgument when stderr is no terminal.
  static absl::Status Check(const Console& console);
  WatchScreen(Console& console, const WatchMeter::Weights& weights, const WatchCeilings& ceilings);
  ~WatchScreen();
  WatchScreen(const WatchScreen&) = delete;
  WatchScreen& operator=(const WatchScreen&) = delete;

  // After each step, once its text is printed. The error of the text held back.
  absl::Status Update(const StepRecord& step);
  // Wipes the lines and prints what was held back.
  absl::Status Finish();

 private:
  static constexpr int64_t kFrameNs = 200'000'000;
  void Write(const std::string& text) const;

  Console& console_;
  RealClock clock_;
  WatchMeter meter_;
  bool is_colored_;
  bool is_shown_ = false;
  int64_t drawn_ns_ = 0;
};

}  // namespace stoker
