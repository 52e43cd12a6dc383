// Measuring the last seconds, and drawing them.
#include "cli/watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/units.h"
#include "cli/summary.h"

namespace stoker {
namespace {

// A spike takes longer than so many medians of the decode steps before it.
constexpr double kSpikeMedians = 1.5;
constexpr int kNameWidth = 8;
constexpr int kBarWidthMax = 40;
constexpr int kBarWidthMin = 8;

// One letter and one colour (of the terminal's sixteen) a cause: letters tell them apart where
// there are no colours, or for those who do not see them.
struct CauseLook {
  Cause cause;
  char letter;
  int color;
};
constexpr CauseLook kCauseLooks[] = {
    {Cause::kExpertCompute, 'e', 44}, {Cause::kAttention, 'a', 46}, {Cause::kDense, 'd', 42},
    {Cause::kRouter, 'r', 45},        {Cause::kHead, 'h', 100},     {Cause::kStore, 's', 47},
    {Cause::kEmbedding, '.', 100},    {Cause::kSampling, '.', 100}, {Cause::kPrefetch, '.', 100},
    {Cause::kScheduling, '.', 100},   {Cause::kOther, '?', 100},    {Cause::kWaitDevice, 'G', 43},
    {Cause::kWaitCopy, 'C', 43},      {Cause::kWaitDrive, 'D', 41},
};

double Rate(double amount, int64_t ns) {
  return ns <= 0 ? 0 : amount * 1e9 / static_cast<double>(ns);
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

int BarWidth(const WatchLook& look) {
  return std::clamp(look.columns / 3, kBarWidthMin, kBarWidthMax);
}

// A line cut to fit; a name first, so that lines stand under each other.
std::string Line(const char* name, const std::string& text, const WatchLook& look) {
  const size_t width = static_cast<size_t>(std::max(1, look.columns - 1));
  return fmt::format("{:<{}}{}", name, kNameWidth, text).substr(0, width);
}

std::string Speed(const WatchState& state) {
  if (state.is_prompt) {
    return fmt::format("{:.1f} tokens/s of the prompt, {} read", state.tokens_per_second,
                       state.prompt_rows);
  }
  return fmt::format("{:.1f} tokens/s, {} generated in {}", state.tokens_per_second, state.tokens,
                     FormatDuration(state.wall_ns));
}

std::string Experts(const WatchState& state) {
  const uint64_t asked = state.vram_hits + state.ram_hits + state.misses;
  if (asked == 0) return "none asked for";
  std::string text;
  if (state.has_vram) text = fmt::format("VRAM {:.1f} %, ", 100 * Share(state.vram_hits, asked));
  return text + fmt::format("RAM {:.1f} %, drive {:.1f} %", 100 * Share(state.ram_hits, asked),
                            100 * Share(state.misses, asked));
}

// "[=====     ] 1.20 GB/s of 2.10 GB/s": the bar only where there is a ceiling.
std::string Link(double rate, double ceiling, const WatchLook& look) {
  if (ceiling <= 0) return FormatRate(rate) + ", ceiling not measured (--ceilings)";
  const int width = BarWidth(look);
  const int filled = std::clamp(static_cast<int>(rate / ceiling * width + 0.5), 0, width);
  return fmt::format("[{:<{}}] {} of {}, {:.0f} %", std::string(static_cast<size_t>(filled), '='),
                     width, FormatRate(rate), FormatRate(ceiling), 100 * rate / ceiling);
}

std::string Drive(const WatchState& state, const WatchLook& look) {
  if (state.drive_share == 0) return "idle";
  return Link(state.drive_rate, state.ceilings.drive, look) +
         fmt::format(", reading {:.0f} % of the time", 100 * state.drive_share);
}

// One letter a share of the bar, then the largest causes by name.
std::string Causes(const WatchState& state, const WatchLook& look) {
  const int64_t sum = std::accumulate(state.causes.begin(), state.causes.end(), int64_t{0});
  if (sum == 0) return Line("time", "", look);
  const int width = BarWidth(look);
  const size_t room = static_cast<size_t>(std::max(0, look.columns - 1 - kNameWidth));
  std::string bar;
  size_t drawn = 0;
  int64_t below = 0;
  for (const CauseLook& cause : kCauseLooks) {
    below += state.causes[static_cast<size_t>(cause.cause)];
    const size_t end = std::min(room, static_cast<size_t>(below * width / sum));
    if (end <= drawn) continue;
    const std::string letters(end - drawn, cause.letter);
    bar += look.is_colored ? fmt::format("\x1b[30;{}m{}\x1b[0m", cause.color, letters) : letters;
    drawn = end;
  }
  const std::string names = "  " + FormatCauses(state.causes);
  return Line("time", "", look) + bar + names.substr(0, room - drawn);
}

std::string Spike(const WatchState& state) {
  const WatchSpike& spike = state.last_spike;
  if (spike.step.wall_ns == 0) return "none so far";
  std::string text =
      fmt::format("token {}: {}, {}", spike.token, FormatDuration(spike.step.wall_ns),
                  FormatCauses(spike.step.causes));
  const size_t second = text.find(',', text.find(',') + 1);
  if (second != std::string::npos) text.resize(second);  // the largest cause alone
  if (!spike.step.worst_misses.empty()) text += "; " + FormatMiss(spike.step.worst_misses.front());
  return text;
}

}  // namespace

void WatchMeter::AddTo(Frame& sum, const Frame& frame) {
  sum.steps += frame.steps;
  sum.tokens += frame.tokens;
  sum.wall_ns += frame.wall_ns;
  sum.drive_busy_ns += frame.drive_busy_ns;
  sum.vram_hits += frame.vram_hits;
  sum.ram_hits += frame.ram_hits;
  sum.misses += frame.misses;
  sum.read_bytes += frame.read_bytes;
  for (size_t c = 0; c < sum.causes.size(); ++c) sum.causes[c] += frame.causes[c];
}

void WatchMeter::NoteSpike(const StepRecord& step) {
  const size_t count = static_cast<size_t>(std::min<int64_t>(decode_steps_, kMedianOf));
  if (count >= kMedianMin) {
    std::array<int64_t, kMedianOf> sorted = walls_;
    const auto middle = sorted.begin() + static_cast<ptrdiff_t>(count / 2);
    std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<ptrdiff_t>(count));
    if (static_cast<double>(step.wall_ns) > kSpikeMedians * static_cast<double>(*middle)) {
      state_.last_spike = {.token = decode_steps_ + 1, .step = step};
    }
  }
  walls_[static_cast<size_t>(decode_steps_) % kMedianOf] = step.wall_ns;
  ++decode_steps_;
}

void WatchMeter::Add(const StepRecord& step) {
  state_.is_prompt = step.prompt_rows > 0;
  state_.prompt_rows += step.prompt_rows;
  state_.tokens += step.tokens;
  state_.wall_ns += step.wall_ns;
  state_.has_vram |= step.vram_hits > 0;
  AddTo(frames_[newest_], {.steps = 1,
                           .tokens = state_.is_prompt ? step.prompt_rows : step.tokens,
                           .wall_ns = step.wall_ns,
                           .drive_busy_ns = step.drive_busy_ns,
                           .vram_hits = step.vram_hits,
                           .ram_hits = step.hits - step.vram_hits,
                           .misses = step.misses,
                           .read_bytes = step.read_bytes,
                           .causes = step.causes});
  if (!state_.is_prompt && step.tokens > 0) NoteSpike(step);
}

WatchState WatchMeter::NextFrame() {
  Frame sum;
  for (const Frame& frame : frames_) AddTo(sum, frame);
  newest_ = (newest_ + 1) % kFrames;
  frames_[newest_] = {};

  WatchState state = state_;
  state.tokens_per_second = Rate(static_cast<double>(sum.tokens), sum.wall_ns);
  state.vram_hits = sum.vram_hits;
  state.ram_hits = sum.ram_hits;
  state.misses = sum.misses;
  state.drive_rate = Rate(static_cast<double>(sum.read_bytes), sum.drive_busy_ns);
  state.drive_share = Share(static_cast<uint64_t>(sum.drive_busy_ns),
                            static_cast<uint64_t>(std::max<int64_t>(1, sum.wall_ns)));
  state.ceilings = ceilings_;
  state.causes = sum.causes;
  if (!weights_.has_device) {
    const double experts = static_cast<double>(sum.vram_hits + sum.ram_hits + sum.misses);
    state.memory_rate =
        Rate(static_cast<double>(sum.steps) * static_cast<double>(weights_.trunk_bytes) +
                 experts * weights_.expert_bytes,
             sum.wall_ns);
  }
  return state;
}

std::vector<std::string> RenderWatch(const WatchState& state, const WatchLook& look) {
  std::vector<std::string> lines = {Line(state.is_prompt ? "prompt" : "decode", Speed(state), look),
                                    Line("experts", Experts(state), look),
                                    Line("drive", Drive(state, look), look), Causes(state, look),
                                    Line("spike", Spike(state), look)};
  if (state.memory_rate > 0) {
    lines.insert(lines.begin() + 3,
                 Line("memory", Link(state.memory_rate, state.ceilings.memory, look), look));
  }
  lines.resize(std::min(lines.size(), static_cast<size_t>(std::max(1, look.rows / 2))));
  return lines;
}

}  // namespace stoker
