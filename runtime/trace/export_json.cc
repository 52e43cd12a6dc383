// A trace as JSON lines: the header, then an object for each step.
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "runtime/trace/trace_exports.h"
#include "runtime/trace/trace_header.h"
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

using nlohmann::ordered_json;

int LayerAt(const Trace& trace, int index) {
  return trace.header.layers[static_cast<size_t>(index)].layer;
}

// [rows, width] values as a list of lists.
template <typename Value>
ordered_json RowsJson(const std::vector<Value>& values, int64_t first, int64_t count, int width) {
  ordered_json rows = ordered_json::array();
  for (int64_t row = first; row < first + count; row += width) {
    rows.push_back(std::vector<Value>(values.begin() + row, values.begin() + row + width));
  }
  return rows;
}

ordered_json RoutingJson(const Trace& trace, const TraceRouting& routing) {
  ordered_json json = {
      {"layer", LayerAt(trace, routing.layer_index)},
      {"experts", RowsJson(trace.ids, routing.first_id, routing.id_count, routing.top_k)}};
  if (!trace.weights.empty()) {
    json["weights"] = RowsJson(trace.weights, routing.first_id, routing.id_count, routing.top_k);
  }
  if (!trace.was_resident.empty()) {
    json["resident"] =
        RowsJson(trace.was_resident, routing.first_id, routing.id_count, routing.top_k);
  }
  return json;
}

ordered_json MissJson(const MissRecord& miss) {
  ordered_json json = {{"layer", miss.id.layer},        {"expert", miss.id.expert},
                       {"reason", NameOf(miss.reason)}, {"evicted_step", nullptr},
                       {"read_ns", miss.read_ns},       {"read_bytes", miss.read_bytes}};
  if (miss.evicted_step >= 0) json["evicted_step"] = miss.evicted_step;
  return json;
}

ordered_json RatesJson(const LinkRates& rates) {
  return {{"host", rates.host},
          {"host_row", rates.host_row},
          {"copy_in", rates.copy_in},
          {"copy_out", rates.copy_out},
          {"host_beside_copy", rates.host_beside_copy},
          {"copy_beside_host", rates.copy_beside_host},
          {"device", rates.device},
          {"drive", rates.drive}};
}

ordered_json PlacementJson(const Trace& trace, const TracePlacement& placement) {
  ordered_json experts = ordered_json::array();
  for (const TracePlaced& placed : EntriesOf(trace.placed, {placement.first, placement.count})) {
    experts.push_back({{"expert", placed.expert},
                       {"rows", placed.rows},
                       {"worth_keeping", placed.is_worth_keeping}});
  }
  return {{"layer", LayerAt(trace, placement.layer_index)},
          {"from_file", placement.is_from_file},
          {"device_backlog_bytes", placement.device_backlog_bytes},
          {"rates", RatesJson(trace.rates[static_cast<size_t>(placement.rates_index)])},
          {"copied", placement.copy_count},
          {"experts", experts}};
}

// Times and counts.
ordered_json StepJson(const TraceStep& step) {
  ordered_json causes = ordered_json::object();
  for (size_t cause = 0; cause < step.causes.size(); ++cause) {
    causes[std::string(NameOf(static_cast<Cause>(cause)))] = step.causes[cause];
  }
  return {{"type", "step"},
          {"step", step.step},
          {"sequence_group", step.sequence_group},
          {"begin_ns", step.begin_ns},
          {"wall_ns", step.wall_ns},
          {"system_ns", step.system_ns},
          {"causes", causes},
          {"tokens", step.tokens},
          {"draft_rows", step.draft_rows},
          {"drafts_right", step.drafts_right},
          {"predicted_ns", step.predicted_ns},
          {"wasted_ns", step.wasted_ns},
          {"hits", step.hits},
          {"misses", step.misses_count},
          {"vram_hits", step.vram_hits},
          {"read_bytes", step.read_bytes},
          {"copied_in_bytes", step.copied_in_bytes},
          {"copied_out_bytes", step.copied_out_bytes},
          {"host_experts", step.host_experts},
          {"device_experts", step.device_experts},
          {"drive_busy_ns", step.drive_busy_ns}};
}

void AddEntries(const Trace& trace, const TraceStep& step, ordered_json& json) {
  for (const char* key : {"rows", "routing", "lookahead", "residency", "worst_misses"}) {
    json[key] = ordered_json::array();
  }
  for (const TraceRow& row : EntriesOf(trace.rows, step.rows)) {
    json["rows"].push_back(
        {{"sequence", row.sequence}, {"position", row.position}, {"phase", PhaseOf(row)}});
  }
  for (const TraceRouting& routing : EntriesOf(trace.routings, step.routings)) {
    json["routing"].push_back(RoutingJson(trace, routing));
  }
  for (const TraceLookahead& guess : EntriesOf(trace.lookaheads, step.lookaheads)) {
    json["lookahead"].push_back(
        {{"layer", LayerAt(trace, guess.layer_index)},
         {"target_layer", LayerAt(trace, guess.target_index)},
         {"experts", RowsJson(trace.guesses, guess.first_id, guess.id_count, guess.count)}});
  }
  for (const TraceResidency& change : EntriesOf(trace.residency, step.residency)) {
    json["residency"].push_back({{"change", NameOf(change.change)},
                                 {"layer", LayerAt(trace, change.layer_index)},
                                 {"expert", change.expert},
                                 {"bytes", change.bytes}});
  }
  for (const MissRecord& miss : EntriesOf(trace.misses, step.misses)) {
    json["worst_misses"].push_back(MissJson(miss));
  }
  for (const TracePlacement& placement : EntriesOf(trace.placements, step.placements)) {
    json["placements"].push_back(PlacementJson(trace, placement));
  }
}

}  // namespace

absl::Status ExportJson(const Trace& trace, TextOut& out) {
  ordered_json header = {{"type", "header"}, {"format", trace.header.format}};
  header.update(ordered_json::parse(HeaderJson(trace.header)));
  out.text() += header.dump() + '\n';
  for (const TraceStep& step : trace.steps) {
    ordered_json json = StepJson(step);
    AddEntries(trace, step, json);
    out.text() += json.dump() + '\n';
    RETURN_IF_ERROR(out.Pass());
  }
  return out.Finish();
}

}  // namespace stoker
