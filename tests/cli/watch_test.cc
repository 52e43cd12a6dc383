// Claims of watch.h and of what watch_screen.h sends to a terminal.
#include "cli/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/watch_screen.h"

namespace stoker {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kMs = 1'000'000;

StepRecord Decode(int64_t wall_ns) {
  StepRecord step;
  step.wall_ns = wall_ns;
  step.decode_rows = step.tokens = 1;
  step.causes[static_cast<size_t>(Cause::kExpertCompute)] = wall_ns / 2;
  step.causes[static_cast<size_t>(Cause::kWaitDrive)] = wall_ns - wall_ns / 2;
  step.hits = 6;
  step.vram_hits = 2;
  step.misses = 2;
  step.read_bytes = 1'000'000;
  step.drive_busy_ns = wall_ns / 4;
  return step;
}

WatchMeter Meter(const WatchCeilings& ceilings = {}) {
  return WatchMeter({.trunk_bytes = 1'000'000, .expert_bytes = 500'000}, ceilings);
}

std::string Text(const WatchState& state, const WatchLook& look = {}) {
  std::string text;
  for (const std::string& line : RenderWatch(state, look)) text += line + "\n";
  return text;
}

TEST(WatchMeter, RatesAreOfTheStepsOfTheLastSeconds) {
  WatchMeter meter = Meter();
  for (int i = 0; i < 10; ++i) meter.Add(Decode(10 * kMs));
  const WatchState state = meter.NextFrame();
  EXPECT_DOUBLE_EQ(state.tokens_per_second, 100);
  EXPECT_DOUBLE_EQ(state.drive_rate, 4e8);  // a megabyte in 2.5 ms
  EXPECT_DOUBLE_EQ(state.drive_share, 0.25);
  EXPECT_DOUBLE_EQ(state.memory_rate, 5e8);  // trunk and eight experts in 10 ms
  EXPECT_EQ(state.vram_hits, 20u);
  EXPECT_EQ(state.ram_hits, 40u);
  EXPECT_EQ(state.misses, 20u);
  EXPECT_EQ(state.tokens, 10);
}

TEST(WatchMeter, OldFramesAreForgotten) {
  WatchMeter meter = Meter();
  meter.Add(Decode(1000 * kMs));
  for (int frame = 0; frame < 10; ++frame) {
    EXPECT_GT(meter.NextFrame().tokens_per_second, 0);
  }
  EXPECT_EQ(meter.NextFrame().tokens_per_second, 0);
  meter.Add(Decode(10 * kMs));
  EXPECT_DOUBLE_EQ(meter.NextFrame().tokens_per_second, 100);
  EXPECT_EQ(meter.NextFrame().tokens, 2);  // of the run
}

TEST(WatchMeter, PromptRowsAreTokensOfThePrompt) {
  WatchMeter meter = Meter();
  StepRecord prompt;
  prompt.wall_ns = 100 * kMs;
  prompt.prompt_rows = 50;
  meter.Add(prompt);
  const WatchState state = meter.NextFrame();
  EXPECT_TRUE(state.is_prompt);
  EXPECT_DOUBLE_EQ(state.tokens_per_second, 500);
  EXPECT_THAT(Text(state), HasSubstr("500.0 tokens/s of the prompt, 50 read"));
}

TEST(WatchMeter, ASpikeStandsOutFromTheMedianOfThoseBefore) {
  WatchMeter meter = Meter();
  meter.Add(Decode(500 * kMs));  // too early to tell
  for (int i = 0; i < 20; ++i) meter.Add(Decode(10 * kMs));
  EXPECT_EQ(meter.NextFrame().last_spike.step.wall_ns, 0);
  StepRecord slow = Decode(40 * kMs);
  slow.worst_misses.push_back(
      {.id = {4, 31}, .reason = MissReason::kEvicted, .evicted_step = 12, .read_ns = 20 * kMs});
  meter.Add(slow);
  meter.Add(Decode(14 * kMs));
  const WatchState state = meter.NextFrame();
  EXPECT_EQ(state.last_spike.token, 22);
  EXPECT_THAT(
      Text(state, {.columns = 200}),
      HasSubstr("token 22: 40.0 ms, expert_compute 50 %; layer 4 expert 31: evicted in step "
                "12, read in 20.0 ms"));
}

TEST(WatchMeter, WithADeviceTheProcessorsBandwidthIsNotKnown) {
  WatchMeter meter({.trunk_bytes = 1000, .expert_bytes = 10, .has_device = true}, {});
  meter.Add(Decode(kMs));
  const WatchState state = meter.NextFrame();
  EXPECT_EQ(state.memory_rate, 0);
  EXPECT_THAT(Text(state), Not(HasSubstr("memory")));
}

TEST(RenderWatch, RatesStandBesideTheirCeilings) {
  WatchMeter meter = Meter({.drive = 1e9, .memory = 1e9});
  meter.Add(Decode(10 * kMs));
  const std::string text = Text(meter.NextFrame(), {.columns = 120});
  EXPECT_THAT(text, HasSubstr("400.00 MB/s of 1.00 GB/s, 40 %, reading 25 % of the time"));
  EXPECT_THAT(text, HasSubstr("500.00 MB/s of 1.00 GB/s, 50 %"));
  EXPECT_THAT(text, HasSubstr("[================        ")) << "two fifths of forty";
}

TEST(RenderWatch, ACeilingThatWasNotMeasuredIsSaid) {
  WatchMeter meter = Meter();
  meter.Add(Decode(10 * kMs));
  EXPECT_THAT(Text(meter.NextFrame()), HasSubstr("400.00 MB/s, ceiling not measured (--ceilings)"));
}

TEST(RenderWatch, HitsAreByTier) {
  WatchMeter meter = Meter();
  meter.Add(Decode(10 * kMs));
  EXPECT_THAT(Text(meter.NextFrame()), HasSubstr("VRAM 25.0 %, RAM 50.0 %, drive 25.0 %"));
  WatchState state;
  state.ram_hits = 1;
  EXPECT_THAT(Text(state), Not(HasSubstr("VRAM")));
}

TEST(RenderWatch, TimeIsABarOfLettersByCause) {
  WatchMeter meter = Meter();
  meter.Add(Decode(10 * kMs));
  EXPECT_THAT(Text(meter.NextFrame(), {.columns = 120}),
              HasSubstr("time    " + std::string(20, 'e') + std::string(20, 'D') +
                        "  expert_compute 50 %, wait_drive 50 %"));
}

TEST(RenderWatch, NoLineIsAsWideAsTheTerminal) {
  WatchMeter meter = Meter({.drive = 1e9});
  for (int i = 0; i < 20; ++i) meter.Add(Decode(10 * kMs));
  meter.Add(Decode(90 * kMs));
  const WatchState state = meter.NextFrame();
  for (int columns = 1; columns <= 200; ++columns) {
    for (const std::string& line : RenderWatch(state, {.columns = columns})) {
      EXPECT_LE(line.size(), static_cast<size_t>(std::max(1, columns - 1))) << columns;
    }
  }
}

TEST(RenderWatch, HalfOfTheRowsAreLeftToTheText) {
  EXPECT_EQ(RenderWatch({}, {.rows = 6}).size(), 3u);
  EXPECT_EQ(RenderWatch({}, {.rows = 1}).size(), 1u);
}

TEST(RenderWatch, ColorsAreOnlyWhereTheyAreWanted) {
  WatchMeter meter = Meter();
  meter.Add(Decode(10 * kMs));
  const WatchState state = meter.NextFrame();
  EXPECT_THAT(Text(state), Not(HasSubstr("\x1b")));
  const std::string colored = Text(state, {.is_colored = true});
  EXPECT_THAT(colored, HasSubstr("\x1b[30;41mDDD"));
  EXPECT_THAT(colored, HasSubstr("D\x1b[0m"));
}

TEST(RenderWatch, NothingMeasuredYetIsDrawnToo) {
  const std::string text = Text({});
  EXPECT_THAT(text, HasSubstr("none asked for"));
  EXPECT_THAT(text, HasSubstr("idle"));
  EXPECT_THAT(text, HasSubstr("none so far"));
}

// A terminal of a few rows that understands what is sent, one character a cell.
class Terminal {
 public:
  Terminal(int rows, int columns)
      : cells_(static_cast<size_t>(rows), std::string(static_cast<size_t>(columns), ' ')) {}

  void Take(const std::string& text) {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r') {
        column_ = 0;
      } else if (text[i] == '\n') {
        Down();
        column_ = 0;
      } else if (text[i] != '\x1b') {
        cells_[row_][column_++] = text[i];
      } else {
        i = TakeEscape(text, i + 1);
      }
    }
  }
  std::string row(size_t index) const {
    const std::string& line = cells_[index];
    return line.substr(0, line.find_last_not_of(' ') + 1);
  }

 private:
  void Down() {
    if (++row_ < cells_.size()) return;
    cells_.erase(cells_.begin());
    cells_.push_back(std::string(cells_[0].size(), ' '));
    --row_;
  }
  // Returns the index of the last character of the sequence that begins at `i`.
  size_t TakeEscape(const std::string& text, size_t i) {
    if (text[i] == '7') saved_ = {row_, column_};
    if (text[i] == '8') std::tie(row_, column_) = saved_;
    if (text[i] == 'D') Down();
    if (text[i] != '[') return i;
    size_t number = 0;
    for (++i; isdigit(text[i]); ++i) number = number * 10 + static_cast<size_t>(text[i] - '0');
    if (text[i] == 'A') row_ -= std::min(row_, number);
    if (text[i] == 'B') row_ = std::min(row_ + 1, cells_.size() - 1);
    if (text[i] == 'K') cells_[row_].assign(cells_[row_].size(), ' ');
    if (text[i] == 'J') {
      for (size_t c = column_; c < cells_[row_].size(); ++c) cells_[row_][c] = ' ';
      for (size_t r = row_ + 1; r < cells_.size(); ++r) cells_[r].assign(cells_[r].size(), ' ');
    }
    return i;
  }

  std::vector<std::string> cells_;
  size_t row_ = 0, column_ = 0;
  std::pair<size_t, size_t> saved_;
};

TEST(WatchScreen, LinesStandBelowTheTextAndTheTextGoesOnWhereItWas) {
  Terminal terminal(6, 20);
  terminal.Take("Once upon");
  terminal.Take(DrawBelow({"first", "second"}));
  EXPECT_EQ(terminal.row(0), "Once upon");
  EXPECT_EQ(terminal.row(1), "first");
  EXPECT_EQ(terminal.row(2), "second");
  terminal.Take(WipeBelow());
  terminal.Take(" a time");
  EXPECT_EQ(terminal.row(0), "Once upon a time");
  EXPECT_EQ(terminal.row(1), "");
  EXPECT_EQ(terminal.row(2), "");
}

TEST(WatchScreen, RoomIsMadeAtTheEndOfTheScreen) {
  Terminal terminal(4, 20);
  terminal.Take("1\n2\n3\nlast");
  terminal.Take(DrawBelow({"first", "second"}));
  EXPECT_EQ(terminal.row(0), "3");
  EXPECT_EQ(terminal.row(1), "last");
  EXPECT_EQ(terminal.row(2), "first");
  EXPECT_EQ(terminal.row(3), "second");
  terminal.Take(WipeBelow());
  terminal.Take(" line\nnext");
  EXPECT_EQ(terminal.row(1), "last line");
  EXPECT_EQ(terminal.row(2), "next");
  EXPECT_EQ(terminal.row(3), "");
}

}  // namespace
}  // namespace stoker
