// Reads event traces: events.csv, a set of experts per layer and scheduler step, beside
// manifest.json, which names the shape and the store that was modelled.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "base/status.h"
#include "runtime/trace/text_table.h"
#include "runtime/trace/trace_formats.h"

namespace stoker {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kEvents = "events.csv";
constexpr std::string_view kManifest = "manifest.json";
constexpr std::string_view kColumns =
    "event_index,scheduler_step,layer,requested_experts,misses,hits";
constexpr size_t kColumnCount = 6;
constexpr int64_t kCountMax = 65536;

int64_t IntOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

absl::StatusOr<TraceHeader> ReadManifest(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeText(path, kTraceTextBytesMax);
  if (!text.ok()) {
    return WithContext(text.status(), fmt::format("{} is read beside {}", kManifest, kEvents));
  }
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const Json model = json.is_object() ? json.value("model", Json()) : Json();
  const int64_t layers = model.is_object() ? IntOf(model, "num_layers") : 0;
  const int64_t experts = model.is_object() ? IntOf(model, "num_experts_per_layer") : 0;
  if (layers < 1 || layers > kCountMax || experts < 1 || experts > kCountMax) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: model.num_layers and model.num_experts_per_layer are missing or not within 1 to {}: "
        "it was cut off, or is the manifest of something else",
        path, kCountMax));
  }
  TraceHeader header;
  header.ranks_known = false;
  for (int64_t layer = 0; layer < layers; ++layer) {
    header.layers.push_back({.layer = static_cast<int>(layer),
                             .expert_count = static_cast<int>(experts),
                             .expert_bytes = 1});
  }
  header.policy = TextOf(json, "policy");
  if (TextOf(json, "cache_scope") == "per_layer" && !header.policy.empty()) {
    header.policy += "-per-layer";
  }
  header.budget_bytes =
      static_cast<uint64_t>(std::max<int64_t>(0, IntOf(json, "capacity_blocks_total")));
  return header;
}

class EventsCsv {
 public:
  EventsCsv(const std::string& path, std::string_view text, TraceHeader header)
      : lines_(path, text) {
    trace_.header = std::move(header);
  }

  absl::StatusOr<Trace> Read() {
    std::string_view line;
    if (!lines_.Next(&line) || line != kColumns) {
      return lines_.Error(fmt::format("'{}' is not the heading {}: it is another kind of CSV",
                                      line.substr(0, 80), kColumns));
    }
    while (lines_.Next(&line)) {
      if (!line.empty()) RETURN_IF_ERROR(ReadEvent(line));
    }
    SetTopK();
    return std::move(trace_);
  }

 private:
  absl::Status ReadEvent(std::string_view line) {
    SplitText(line, ',', &fields_);
    if (fields_.size() != kColumnCount) return BadLine(line);
    int64_t index = 0, step = 0;
    int layer = 0;
    uint64_t misses = 0, hits = 0;
    const bool is_parsed = ParseWhole(fields_[0], &index) && ParseWhole(fields_[1], &step) &&
                           ParseWhole(fields_[2], &layer) && ParseWhole(fields_[4], &misses) &&
                           ParseWhole(fields_[5], &hits);
    if (!is_parsed) return BadLine(line);
    if (layer < 0 || layer >= static_cast<int>(trace_.header.layers.size())) {
      return lines_.Error(fmt::format("layer {} of a model with {}: {} is of another trace", layer,
                                      trace_.header.layers.size(), kManifest));
    }
    RETURN_IF_ERROR(EnterStep(step));
    RETURN_IF_ERROR(AddExperts(layer));
    trace_.steps.back().hits += hits;
    trace_.steps.back().misses_count += misses;
    return absl::OkStatus();
  }

  absl::Status EnterStep(int64_t step) {
    if (!trace_.steps.empty() && trace_.steps.back().step == step) return absl::OkStatus();
    if (!trace_.steps.empty() && trace_.steps.back().step > step) {
      return lines_.Error(fmt::format("scheduler step {} comes after step {}: lines were moved",
                                      step, trace_.steps.back().step));
    }
    TraceStep added;
    added.step = step;
    added.rows = {static_cast<int64_t>(trace_.rows.size()), 1};
    added.routings = {static_cast<int64_t>(trace_.routings.size()), 0};
    trace_.rows.push_back({.position = static_cast<int32_t>(trace_.steps.size())});
    trace_.steps.push_back(added);
    return absl::OkStatus();
  }

  absl::Status AddExperts(int layer) {
    const int expert_count = trace_.header.layers[static_cast<size_t>(layer)].expert_count;
    const auto first = static_cast<int64_t>(trace_.ids.size());
    SplitText(fields_[3], ' ', &experts_);
    std::set<int> seen;
    for (const std::string_view text : experts_) {
      int expert = 0;
      if (!ParseWhole(text, &expert) || expert < 0 || expert >= expert_count) {
        return lines_.Error(
            fmt::format("expert '{}' of a layer with {}: the line is damaged", text, expert_count));
      }
      if (!seen.insert(expert).second) {
        return lines_.Error(fmt::format("expert {} is named twice: the line is damaged", expert));
      }
      trace_.ids.push_back(static_cast<uint16_t>(expert));
    }
    const int64_t count = static_cast<int64_t>(trace_.ids.size()) - first;
    trace_.routings.push_back({.layer_index = layer,
                               .top_k = static_cast<int>(count),
                               .first_id = first,
                               .id_count = count});
    ++trace_.steps.back().routings.count;
    return absl::OkStatus();
  }

  absl::Status BadLine(std::string_view line) const {
    return lines_.Error(
        fmt::format("'{}' is not {}: {}", line.substr(0, 80), kColumns,
                    lines_.is_whole() ? "the file is damaged" : "the end of the file was cut off"));
  }

  // The same for all events, or 0.
  void SetTopK() {
    int top_k = trace_.routings.empty() ? 0 : trace_.routings.front().top_k;
    for (const TraceRouting& routing : trace_.routings) {
      if (routing.top_k != top_k) top_k = 0;
    }
    trace_.header.top_k = top_k;
  }

  TextLines lines_;
  Trace trace_;
  std::vector<std::string_view> fields_;
  std::vector<std::string_view> experts_;
};

}  // namespace

bool RecognizesEventsCsv(const TraceSource& source) {
  if (source.is_folder) {
    std::error_code error;
    return std::filesystem::exists(std::filesystem::path(source.path) / kEvents, error);
  }
  return source.head.starts_with(kColumns);
}

absl::StatusOr<Trace> ReadEventsCsv(const std::string& path, const ReadTraceOptions&) {
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(path, error);
  const std::filesystem::path file(path);
  const std::filesystem::path folder = is_folder ? file : file.parent_path();
  const std::string events = is_folder ? (folder / kEvents).string() : path;
  ASSIGN_OR_RETURN(TraceHeader header, ReadManifest((folder / kManifest).string()));
  header.model = path;
  ASSIGN_OR_RETURN(const std::string text, ReadWholeText(events, kTraceTextBytesMax));
  return EventsCsv(events, text, std::move(header)).Read();
}

}  // namespace stoker
