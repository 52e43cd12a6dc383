// What stoker run --watch shows: measured from the steps of a run, and drawn as lines of text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/time_ledger.h"
#include "runtime/engine.h"

namespace stoker {

// The best that this machine can do, in bytes per second; 0: not measured.
struct WatchCeilings {
  double drive = 0;
  double memory = 0;
};

// A decode step that took much longer than others.
struct WatchSpike {
  int64_t token = 0;  // which decode step of the run, counted from 1
  StepRecord step;
};

// All that is drawn. Rates are over the last seconds; 0 where there is nothing to go by.
struct WatchState {
  bool is_prompt = false;  // the newest step read the prompt
  double tokens_per_second = 0;
  int64_t prompt_rows = 0;  // so far
  int64_t tokens = 0;
  int64_t wall_ns = 0;
  uint64_t vram_hits = 0, ram_hits = 0, misses = 0;  // experts, of the last seconds
  bool has_vram = false;
  double drive_rate = 0;   // while at least one read was under way
  double drive_share = 0;  // of the time that it was
  double memory_rate = 0;  // weights that the processor read; 0: not known (with a device)
  WatchCeilings ceilings;
  CauseTimes causes = {};  // of the last seconds
  WatchSpike last_spike;   // step.wall_ns 0: there was none
};

// Gathers steps into a state. Takes no memory for a step but that of the last spike.
class WatchMeter {
 public:
  // What a step reads from memory: the trunk once, and each expert asked for.
  struct Weights {
    uint64_t trunk_bytes = 0;
    double expert_bytes = 0;  // mean
    bool has_device = false;
  };
  explicit WatchMeter(const Weights& weights, const WatchCeilings& ceilings)
      : weights_(weights), ceilings_(ceilings) {}

  void Add(const StepRecord& step);
  // What was added since the last call becomes one frame; the last kFrames are "the last seconds".
  WatchState NextFrame();

 private:
  static constexpr size_t kFrames = 10;    // two seconds at five a second
  static constexpr size_t kMedianOf = 64;  // decode steps that a spike stands out from
  static constexpr size_t kMedianMin = 8;

  struct Frame {
    int64_t steps = 0, tokens = 0, wall_ns = 0, drive_busy_ns = 0;
    uint64_t vram_hits = 0, ram_hits = 0, misses = 0, read_bytes = 0;
    CauseTimes causes = {};
  };
  static void AddTo(Frame& sum, const Frame& frame);
  void NoteSpike(const StepRecord& step);

  const Weights weights_;
  const WatchCeilings ceilings_;
  std::array<Frame, kFrames> frames_;
  size_t newest_ = 0;
  std::array<int64_t, kMedianOf> walls_ = {};  // of the last decode steps
  int64_t decode_steps_ = 0;
  WatchState state_;
};

struct WatchLook {
  int columns = 80;  // of the terminal: lines are shorter, so that none wraps
  int rows = 24;     // lines leave at least half of them to the text
  bool is_colored = false;
};
// Plain ASCII but for colours; parts that do not fit are left out or cut.
std::vector<std::string> RenderWatch(const WatchState& state, const WatchLook& look);

}  // namespace stoker
