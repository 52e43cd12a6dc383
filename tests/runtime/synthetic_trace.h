// A made-up run in memory, by seed: a prompt, then decoding with spikes, a collapsed layer and
// prefetch as asked for.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "runtime/trace/trace.h"

namespace stoker {

struct SyntheticTraceOptions {
  uint64_t seed = 1;
  int layers = 6;
  int experts = 32;
  int top_k = 4;
  int prompt_rows = 40;
  int decode_steps = 300;
  int spike_every = 50;      // decode steps; 0: none
  int collapsed_layer = -1;  // index of the layer whose rows nearly all choose the same experts
  bool has_prefetch = false;
  bool has_vram = false;
  bool has_times = true;    // false, and no residency: as a foreign trace
  double other_choice = 0;  // share of rows and layers that choose anew (another quantization)
  std::string model = "models/synthetic-6x32.gguf";
};

// Builds one; a class, so that the pieces can share the generator.
class SyntheticTrace {
 public:
  static Trace Make(const SyntheticTraceOptions& options) {
    return SyntheticTrace(options).Build();
  }

  static constexpr uint64_t kExpertBytes = 3 << 20;
  static constexpr int64_t kMissNs = 2'000'000;
  static constexpr int64_t kKeptSteps = 24;  // that an expert stays unused before it is evicted
  static constexpr int64_t kStepNs = 20'000'000;  // of a step without a miss, about

 private:
  explicit SyntheticTrace(const SyntheticTraceOptions& options)
      : options_(options), random_(options.seed) {}

  Trace Build() {
    MakeHeader();
    std::vector<TraceRow> prompt;
    for (int r = 0; r < options_.prompt_rows; ++r) prompt.push_back({0, r, true});
    if (!prompt.empty()) AddStep(prompt);
    for (int s = 0; s < options_.decode_steps; ++s) {
      AddStep({{0, options_.prompt_rows + s, false}});
    }
    return std::move(trace_);
  }

  void MakeHeader() {
    TraceHeader& header = trace_.header;
    header.format = options_.has_times ? "stoker" : "packed";
    header.model = options_.model;
    header.model_hash = options_.has_times ? 0x5eed0000 + options_.seed : 0;
    header.top_k = options_.top_k;
    for (int l = 0; l < options_.layers; ++l) {
      header.layers.push_back(
          {l + 1, options_.experts, options_.has_times ? kExpertBytes : uint64_t{1}});
    }
    resident_.assign(static_cast<size_t>(options_.layers * options_.experts), -1);
    if (!options_.has_times) return;
    header.budget_bytes = header.total_expert_bytes() / 2;
    header.vram_budget_bytes = options_.has_vram ? header.total_expert_bytes() / 8 : 0;
    header.policy = "lru";
    header.admission = "always";
    header.prefetch = options_.has_prefetch ? "lookahead" : "none";
    header.settings = "[policy]\nname = \"lru\"\n";
  }

  // Skewed: low ids more often.
  int Draw(int layer, std::mt19937_64& random) const {
    if (layer == options_.collapsed_layer && random() % 50 != 0) {
      return static_cast<int>(random() % static_cast<uint64_t>(options_.top_k));
    }
    const uint64_t experts = static_cast<uint64_t>(options_.experts);
    return static_cast<int>(std::min(random() % experts, random() % experts));
  }

  // Rows draw from streams of their own, so that one that chooses otherwise changes no other.
  std::vector<uint16_t> Choose(int layer, size_t row) {
    const bool is_other = static_cast<double>(random_() % 1000) < 1000 * options_.other_choice;
    const uint64_t place =
        row * static_cast<uint64_t>(options_.layers) + static_cast<size_t>(layer);
    std::mt19937_64 stream(options_.seed * 1'000'003 + place * 2 + (is_other ? 1 : 0));
    std::vector<uint16_t> ids;
    while (static_cast<int>(ids.size()) < options_.top_k) {
      const uint16_t id = static_cast<uint16_t>(Draw(layer, stream));
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
    return ids;
  }

  void AddStep(const std::vector<TraceRow>& rows) {
    TraceStep step = {.step = static_cast<int64_t>(trace_.steps.size())};
    step.rows = {static_cast<int64_t>(trace_.rows.size()), static_cast<int64_t>(rows.size())};
    trace_.rows.insert(trace_.rows.end(), rows.begin(), rows.end());
    step.routings.first = static_cast<int64_t>(trace_.routings.size());
    step.lookaheads.first = static_cast<int64_t>(trace_.lookaheads.size());
    step.residency.first = static_cast<int64_t>(trace_.residency.size());
    step.misses.first = static_cast<int64_t>(trace_.misses.size());
    for (int layer = 0; layer < options_.layers; ++layer) AddLayer(layer, rows.size(), step);
    step.routings.count = static_cast<int64_t>(trace_.routings.size()) - step.routings.first;
    step.lookaheads.count = static_cast<int64_t>(trace_.lookaheads.size()) - step.lookaheads.first;
    step.residency.count = static_cast<int64_t>(trace_.residency.size()) - step.residency.first;
    step.misses.count = static_cast<int64_t>(trace_.misses.size()) - step.misses.first;
    if (options_.has_times) AddTimes(step);
    trace_.steps.push_back(step);
  }

  void AddLayer(int layer, size_t rows, TraceStep& step) {
    const int64_t first_id = static_cast<int64_t>(trace_.ids.size());
    std::vector<uint16_t> asked;
    for (size_t r = 0; r < rows; ++r) {
      const std::vector<uint16_t> ids = Choose(layer, static_cast<size_t>(step.rows.first) + r);
      trace_.ids.insert(trace_.ids.end(), ids.begin(), ids.end());
      asked.insert(asked.end(), ids.begin(), ids.end());
    }
    trace_.routings.push_back(
        {layer, options_.top_k, first_id, static_cast<int64_t>(asked.size())});
    if (!options_.has_times) return;
    if (options_.has_prefetch && layer > 0) Guess(layer, rows, first_id);
    std::sort(asked.begin(), asked.end());
    asked.erase(std::unique(asked.begin(), asked.end()), asked.end());
    for (const uint16_t expert : asked) Ask(layer, expert, step);
  }

  // Three of four guesses are right.
  void Guess(int layer, size_t rows, int64_t first_id) {
    const int64_t first = static_cast<int64_t>(trace_.guesses.size());
    for (size_t i = 0; i < rows * static_cast<size_t>(options_.top_k); ++i) {
      const uint16_t right = trace_.ids[static_cast<size_t>(first_id) + i];
      trace_.guesses.push_back(i % 4 != 3 ? right
                                          : static_cast<uint16_t>((right + 7) % options_.experts));
    }
    trace_.lookaheads.push_back({layer - 1, layer, options_.top_k, first,
                                 static_cast<int64_t>(trace_.guesses.size()) - first});
  }

  void Ask(int layer, int expert, TraceStep& step) {
    int64_t& since = resident_[static_cast<size_t>(layer * options_.experts + expert)];
    // Half of them are gone in a spike.
    const bool is_spiked = IsSpike(step) && expert % 2 == 0;
    const bool is_resident = since >= 0 && step.step - since < kKeptSteps && !is_spiked;
    if (is_resident) {
      ++step.hits;
      step.vram_hits += options_.has_vram && expert < options_.experts / 8 ? 1 : 0;
    } else if (options_.has_prefetch && random_() % 3 == 0) {
      ++step.hits;
      Note(ResidencyChange::kReadOnHint, layer, expert);
      Note(random_() % 8 == 0 ? ResidencyChange::kHintWasted : ResidencyChange::kHintUsed, layer,
           expert);
    } else {
      Miss(layer, expert, since, step);
    }
    since = step.step;
  }

  bool IsSpike(const TraceStep& step) const {
    return options_.spike_every > 0 && step.step % options_.spike_every == options_.spike_every - 1;
  }

  void Miss(int layer, int expert, int64_t since, TraceStep& step) {
    ++step.misses_count;
    step.read_bytes += kExpertBytes;
    if (since >= 0) Note(ResidencyChange::kEvicted, layer, expert);
    Note(ResidencyChange::kRead, layer, expert);
    if (options_.has_vram && expert < options_.experts / 8) {
      Note(ResidencyChange::kPromoted, layer, expert);
    }
    if (trace_.misses.size() - static_cast<size_t>(step.misses.first) >= 8) return;
    trace_.misses.push_back(
        {.id = {layer + 1, expert},
         .reason = since < 0 ? MissReason::kNeverSeen : MissReason::kEvicted,
         .evicted_step = since < 0 ? -1 : std::min(since + kKeptSteps, step.step - 1),
         .read_ns = kMissNs + static_cast<int64_t>(random_() % kMissNs),
         .read_bytes = kExpertBytes});
  }

  void Note(ResidencyChange change, int layer, int expert) {
    trace_.residency.push_back({change, layer, expert, kExpertBytes});
  }

  void AddTimes(TraceStep& step) {
    const auto add = [&step](Cause cause, int64_t ns) {
      step.causes[static_cast<size_t>(cause)] += ns;
      step.wall_ns += ns;
    };
    const int64_t jitter = static_cast<int64_t>(random_() % 2'000'000);
    add(Cause::kAttention, 5'000'000 + jitter);
    add(Cause::kRouter, 800'000);
    add(Cause::kDense, 2'000'000);
    add(Cause::kExpertCompute, 9'000'000 + jitter / 2);
    add(Cause::kHead, 2'400'000);
    add(Cause::kSampling, 150'000);
    add(Cause::kScheduling, 60'000);
    add(Cause::kOther, 30'000);
    if (options_.has_vram) add(Cause::kWaitDevice, 1'500'000);
    if (options_.has_vram) add(Cause::kWaitCopy, 900'000);
    add(Cause::kWaitDrive, static_cast<int64_t>(step.misses_count) * kMissNs / 2);
    if (IsSpike(step)) {
      add(Cause::kWaitDrive, 4 * kStepNs + static_cast<int64_t>(random_() % (4 * kStepNs)));
    }
    step.drive_busy_ns = step.causes[static_cast<size_t>(Cause::kWaitDrive)];
    step.tokens = 1;
    step.host_experts = step.hits + step.misses_count;
  }

  SyntheticTraceOptions options_;
  std::mt19937_64 random_;
  Trace trace_;
  std::vector<int64_t> resident_;  // by layer and expert: the last step that used it; -1: none
};

}  // namespace stoker
