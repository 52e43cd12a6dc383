// Traces as text, for comparing them with a readable difference.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "runtime/trace/trace.h"
#include "runtime/trace/trace_exports.h"
#include "runtime/trace/trace_header.h"
#include "runtime/trace/trace_names.h"

namespace stoker {

inline std::string HeaderText(const TraceHeader& header) { return HeaderJson(header); }

template <typename Entry>
absl::Span<const Entry> RangeOf(const std::vector<Entry>& entries, int64_t first, int64_t count) {
  return EntriesOf(entries, TraceRange{first, count});
}

// One text a step: everything that belongs to it.
inline std::vector<std::string> StepTexts(const Trace& trace) {
  std::vector<std::string> texts;
  for (const TraceStep& step : trace.steps) {
    std::string text = fmt::format(
        "step {} at {} for {} ({} system) tokens {} causes {} counts {} {} {} {} {} {} {} {} busy "
        "{} drafts {} {} {} {}\n",
        step.step, step.begin_ns, step.wall_ns, step.system_ns, step.tokens, step.causes, step.hits,
        step.misses_count, step.vram_hits, step.read_bytes, step.copied_in_bytes,
        step.copied_out_bytes, step.host_experts, step.device_experts, step.drive_busy_ns,
        step.draft_rows, step.drafts_right, step.predicted_ns, step.wasted_ns);
    for (const TraceRow& row : RangeOf(trace.rows, step.rows.first, step.rows.count)) {
      text += fmt::format("row {} {} {}\n", row.sequence, row.position, PhaseOf(row));
    }
    for (const TraceRouting& r :
         RangeOf(trace.routings, step.routings.first, step.routings.count)) {
      const auto ids = RangeOf(trace.ids, r.first_id, r.id_count);
      text += fmt::format("layer {} of {}: {}\n", r.layer_index, r.top_k,
                          fmt::join(ids.begin(), ids.end(), " "));
      if (!trace.header.weights_known) continue;
      const auto weights = RangeOf(trace.weights, r.first_id, r.id_count);
      text += fmt::format("  {}\n", fmt::join(weights.begin(), weights.end(), " "));
    }
    for (const TraceLookahead& l :
         RangeOf(trace.lookaheads, step.lookaheads.first, step.lookaheads.count)) {
      const auto ids = RangeOf(trace.guesses, l.first_id, l.id_count);
      text += fmt::format("guess {} for {} of {}: {}\n", l.layer_index, l.target_index, l.count,
                          fmt::join(ids.begin(), ids.end(), " "));
    }
    for (const TraceResidency& r :
         RangeOf(trace.residency, step.residency.first, step.residency.count)) {
      text += fmt::format("{} {} {} {}\n", NameOf(r.change), r.layer_index, r.expert, r.bytes);
    }
    for (const MissRecord& m : RangeOf(trace.misses, step.misses.first, step.misses.count)) {
      text += fmt::format("miss {} {} {} {} {} {}\n", m.id.layer, m.id.expert, NameOf(m.reason),
                          m.evicted_step, m.read_ns, m.read_bytes);
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace stoker
