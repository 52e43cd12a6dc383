// Hits by tier and layer, and guesses held against what came.
#include "runtime/report/residency.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

namespace stoker {
namespace {

// Layer index and expert as one number.
int64_t KeyOf(int layer_index, int expert) {
  return (static_cast<int64_t>(layer_index) << 32) | static_cast<int64_t>(expert);
}

// Walks a trace and keeps what is in VRAM as it goes.
class ResidencyWalk {
 public:
  explicit ResidencyWalk(const Trace& trace) : trace_(trace) {
    for (const TraceHeader::Layer& layer : trace.header.layers) {
      found_.layers.push_back({.layer = layer.layer});
      found_.prefetch.push_back({.layer = layer.layer});
    }
  }

  Residency Run() {
    for (const TraceStep& step : trace_.steps) {
      AddTotals(step);
      AddAsked(step);
      AddChanges(step);
      AddGuesses(step);
    }
    found_.is_known = found_.decode.asked() + found_.prompt.asked() > 0;
    found_.layers_known =
        found_.is_known && !(trace_.residency.empty() && trace_.was_resident.empty());
    return std::move(found_);
  }

 private:
  void AddTotals(const TraceStep& step) {
    int64_t prompt_rows = 0;
    for (int64_t r = 0; r < step.rows.count; ++r) {
      prompt_rows += trace_.rows[static_cast<size_t>(step.rows.first + r)].is_prompt ? 1 : 0;
    }
    TierHits& hits = prompt_rows > 0 ? found_.prompt : found_.decode;
    hits.vram += step.vram_hits;
    hits.ram += step.hits - step.vram_hits;
    hits.misses += step.misses_count;
    if (prompt_rows == 0) {
      found_.decode_read_bytes += step.read_bytes;
      found_.decode_rows += step.rows.count - step.draft_rows + step.drafts_right;
    }
    found_.read_bytes += step.read_bytes;
    found_.drive_busy_ns += step.drive_busy_ns;
    found_.copied_in_bytes += step.copied_in_bytes;
    found_.copied_out_bytes += step.copied_out_bytes;
    found_.host_experts += step.host_experts;
    found_.device_experts += step.device_experts;
  }

  // The distinct experts of each layer; hits until AddChanges says otherwise.
  void AddAsked(const TraceStep& step) {
    for (int64_t i = 0; i < step.routings.count; ++i) {
      const TraceRouting& routing = trace_.routings[static_cast<size_t>(step.routings.first + i)];
      std::vector<uint16_t> experts(trace_.ids.begin() + routing.first_id,
                                    trace_.ids.begin() + routing.first_id + routing.id_count);
      std::sort(experts.begin(), experts.end());
      experts.erase(std::unique(experts.begin(), experts.end()), experts.end());
      const size_t index = static_cast<size_t>(routing.layer_index);
      if (!trace_.was_resident.empty()) {
        AddNoted(step, routing);
        continue;
      }
      for (const uint16_t expert : experts) {
        if (expert >= trace_.header.layers[index].expert_count) continue;
        TierHits& hits = found_.layers[index].hits;
        ++(in_vram_.contains(KeyOf(routing.layer_index, expert)) ? hits.vram : hits.ram);
      }
    }
  }

  // Another program's trace that notes for each use whether the expert was in memory.
  void AddNoted(const TraceStep& step, const TraceRouting& routing) {
    const size_t first_row = static_cast<size_t>(step.rows.first);
    const bool is_prompt = step.rows.count > 0 && trace_.rows[first_row].is_prompt;
    TierHits& phase = is_prompt ? found_.prompt : found_.decode;
    TierHits& layer = found_.layers[static_cast<size_t>(routing.layer_index)].hits;
    for (int64_t i = 0; i < routing.id_count; ++i) {
      const bool was_resident = trace_.was_resident[static_cast<size_t>(routing.first_id + i)] != 0;
      for (TierHits* hits : {&phase, &layer}) ++(was_resident ? hits->ram : hits->misses);
    }
  }

  void AddChanges(const TraceStep& step) {
    for (int64_t i = 0; i < step.residency.count; ++i) {
      const TraceResidency& event = trace_.residency[static_cast<size_t>(step.residency.first + i)];
      LayerResidency& layer = found_.layers[static_cast<size_t>(event.layer_index)];
      const int64_t key = KeyOf(event.layer_index, event.expert);
      switch (event.change) {
        case ResidencyChange::kRead:
          layer.read_bytes += event.bytes;
          CountMiss(layer.hits, in_vram_.contains(key));
          break;
        case ResidencyChange::kPromoted:
          in_vram_.insert(key);
          break;
        case ResidencyChange::kDemoted:
        case ResidencyChange::kEvicted:
          in_vram_.erase(key);
          break;
        default:
          AddHint(step, event, i);
      }
    }
  }

  static void CountMiss(TierHits& hits, bool was_in_vram) {
    uint64_t& counted = was_in_vram ? hits.vram : hits.ram;
    if (counted > 0) --counted;
    ++hits.misses;
  }

  // `index`: of the event within the step.
  void AddHint(const TraceStep& step, const TraceResidency& event, int64_t index) {
    found_.has_hints = true;
    LayerPrefetch& layer = found_.prefetch[static_cast<size_t>(event.layer_index)];
    if (event.change == ResidencyChange::kReadOnHint) {
      ++layer.hints_read;
    } else if (event.change == ResidencyChange::kHintUsed) {
      ++layer.hints_used;
      layer.hints_late += WasWaitedFor(step, event, index) ? 1 : 0;
    } else if (event.change == ResidencyChange::kHintWasted) {
      ++layer.hints_wasted;
      layer.wasted_bytes += event.bytes;
    } else if (event.change == ResidencyChange::kHintDropped) {
      ++layer.hints_dropped;
      layer.wasted_bytes += event.bytes;
    }
  }

  // A hint that was still under way when it was asked for arrives as a read of demand.
  bool WasWaitedFor(const TraceStep& step, const TraceResidency& used, int64_t index) const {
    for (int64_t i = index + 1; i < step.residency.count; ++i) {
      const TraceResidency& event = trace_.residency[static_cast<size_t>(step.residency.first + i)];
      if (event.layer_index == used.layer_index && event.expert == used.expert) {
        return event.change == ResidencyChange::kRead;
      }
    }
    return false;
  }

  void AddGuesses(const TraceStep& step) {
    for (int64_t i = 0; i < step.lookaheads.count; ++i) {
      const TraceLookahead& guess =
          trace_.lookaheads[static_cast<size_t>(step.lookaheads.first + i)];
      const TraceRouting* routing = RoutingOf(step, guess.target_index);
      if (routing == nullptr || guess.count == 0 || routing->top_k == 0) continue;
      found_.has_lookahead = true;
      const int64_t rows =
          std::min(guess.id_count / guess.count, routing->id_count / routing->top_k);
      LayerPrefetch& layer = found_.prefetch[static_cast<size_t>(guess.target_index)];
      for (int64_t row = 0; row < rows; ++row) {
        const auto guessed = trace_.guesses.begin() + guess.first_id + row * guess.count;
        const auto chosen = trace_.ids.begin() + routing->first_id + row * routing->top_k;
        layer.guessed += guess.count;
        layer.chosen += routing->top_k;
        layer.right += std::count_if(guessed, guessed + guess.count, [&](uint16_t expert) {
          return std::find(chosen, chosen + routing->top_k, expert) != chosen + routing->top_k;
        });
      }
    }
  }

  const TraceRouting* RoutingOf(const TraceStep& step, int layer_index) const {
    for (int64_t i = 0; i < step.routings.count; ++i) {
      const TraceRouting& routing = trace_.routings[static_cast<size_t>(step.routings.first + i)];
      if (routing.layer_index == layer_index) return &routing;
    }
    return nullptr;
  }

  const Trace& trace_;
  Residency found_;
  absl::flat_hash_set<int64_t> in_vram_;
};

}  // namespace

Residency AnalyzeResidency(const Trace& trace) { return ResidencyWalk(trace).Run(); }

}  // namespace stoker
