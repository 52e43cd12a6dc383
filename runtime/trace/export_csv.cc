// Routing as comma-separated lines.
#include <fmt/format.h>

#include <iterator>

#include "base/status.h"
#include "runtime/trace/trace_exports.h"
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

// One row of a step in one layer: a line for each of its experts.
void AppendUses(const Trace& trace, const TraceStep& step, const TraceRow& row,
                const TraceRouting& routing, int64_t first_id, std::string& text) {
  const int layer = trace.header.layers[static_cast<size_t>(routing.layer_index)].layer;
  for (int rank = 0; rank < routing.top_k; ++rank) {
    const auto id = static_cast<size_t>(first_id + rank);
    fmt::format_to(std::back_inserter(text), "{},{},{},{},{},{},{},", step.step, row.sequence,
                   row.position, PhaseOf(row), layer, rank, trace.ids[id]);
    if (!trace.weights.empty()) fmt::format_to(std::back_inserter(text), "{}", trace.weights[id]);
    text += ',';
    if (!trace.was_resident.empty()) text += trace.was_resident[id] != 0 ? '1' : '0';
    text += '\n';
  }
}

}  // namespace

absl::Status ExportCsv(const Trace& trace, TextOut& out) {
  out.text() += "step,sequence,position,phase,layer,rank,expert,weight,resident\n";
  for (const TraceStep& step : trace.steps) {
    for (const TraceRouting& routing : EntriesOf(trace.routings, step.routings)) {
      const int64_t row_count = routing.id_count / routing.top_k;
      // A layer that ran for fewer rows ran for the last ones.
      const int64_t first_row = step.rows.first + step.rows.count - row_count;
      for (int64_t i = 0; i < row_count; ++i) {
        AppendUses(trace, step, trace.rows[static_cast<size_t>(first_row + i)], routing,
                   routing.first_id + i * routing.top_k, out.text());
      }
      RETURN_IF_ERROR(out.Pass());
    }
  }
  return out.Finish();
}

}  // namespace stoker
