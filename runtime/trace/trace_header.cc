// To JSON and back, trusting nothing on the way back.
#include "runtime/trace/trace_header.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "runtime/trace/text_table.h"
#include "runtime/trace/trace_names.h"

namespace stoker {
namespace {

using Json = nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kLayersMax = 65536;
constexpr int64_t kExpertsMax = 65536;

ordered_json LayerJson(const TraceHeader::Layer& layer, const LayerExperts* place) {
  ordered_json json = {{"layer", layer.layer},
                       {"experts", layer.expert_count},
                       {"expert_bytes", layer.expert_bytes}};
  if (place == nullptr) return json;
  ordered_json parts = ordered_json::array();
  for (int p = 0; p < place->part_count; ++p) {
    parts.push_back({{"file", place->parts[p].file},
                     {"offset", place->parts[p].offset},
                     {"bytes", place->parts[p].bytes},
                     {"stride_bytes", place->stride_bytes[p]}});
  }
  json["parts"] = parts;
  return json;
}

absl::Span<const Cause> Causes() {
  static constexpr auto kCauses = [] {
    std::array<Cause, static_cast<size_t>(Cause::kCount)> causes = {};
    for (size_t i = 0; i < causes.size(); ++i) causes[i] = static_cast<Cause>(i);
    return causes;
  }();
  return kCauses;
}

// So that a reader of another version knows what the numbers in records stand for.
template <typename Value>
ordered_json NamesOf(absl::Span<const Value> values) {
  ordered_json names = ordered_json::array();
  for (const Value value : values) names.push_back(NameOf(value));
  return names;
}

// Reads fields, keeping the first thing that is wrong. What is missing is 0 or empty, for the sake
// of fields that come later.
class Fields {
 public:
  const absl::Status& status() const { return status_; }

  template <typename Number>
  Number Int(const Json& object, const char* key, int64_t minimum, int64_t maximum,
             int64_t fallback) {
    const auto found = object.find(key);
    if (found == object.end()) return static_cast<Number>(fallback);
    if (!found->is_number_integer()) {
      Fail(fmt::format("{} is no whole number", key));
      return static_cast<Number>(minimum);
    }
    const auto value = found->get<int64_t>();
    if (value < minimum || value > maximum) {
      Fail(fmt::format("{} is {}, outside of {} to {}", key, value, minimum, maximum));
      return static_cast<Number>(minimum);
    }
    return static_cast<Number>(value);
  }
  uint64_t Bytes(const Json& object, const char* key) {
    return Int<uint64_t>(object, key, 0, INT64_MAX, 0);
  }
  std::string Text(const Json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end()) return {};
    if (found->is_string()) return found->get<std::string>();
    Fail(fmt::format("{} is no text", key));
    return {};
  }
  // Empty when there is none.
  Json List(const Json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end()) return Json::array();
    if (found->is_array()) return *found;
    Fail(fmt::format("{} is no list", key));
    return Json::array();
  }
  template <typename Number>
  std::vector<Number> Numbers(const Json& object, const char* key) {
    std::vector<Number> numbers;
    for (const Json& element : List(object, key)) {
      if (element.is_number_integer() && element.get<int64_t>() >= 0) {
        numbers.push_back(static_cast<Number>(element.get<int64_t>()));
      } else {
        Fail(fmt::format("{} holds something else than whole numbers", key));
      }
    }
    return numbers;
  }
  void Fail(std::string what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(what);
  }

 private:
  absl::Status status_;
};

void ReadLayer(Fields& fields, const Json& object, TraceHeader& header) {
  if (!object.is_object()) return fields.Fail("layers holds something else than objects");
  TraceHeader::Layer layer;
  layer.layer = fields.Int<int>(object, "layer", 0, kLayersMax, -1);
  layer.expert_count = fields.Int<int>(object, "experts", 1, kExpertsMax, 1);
  layer.expert_bytes = fields.Bytes(object, "expert_bytes");
  if (!header.layers.empty() && header.layers.back().layer >= layer.layer) {
    return fields.Fail(fmt::format("layer {} is out of order", layer.layer));
  }
  header.layers.push_back(layer);
  const Json parts = fields.List(object, "parts");
  if (parts.empty()) return;
  if (parts.size() > static_cast<size_t>(kExpertPartsMax)) {
    return fields.Fail(fmt::format("layer {} has {} parts", layer.layer, parts.size()));
  }
  LayerExperts place = {.layer = layer.layer, .expert_count = layer.expert_count};
  for (const Json& part : parts) {
    if (!part.is_object()) return fields.Fail("parts holds something else than objects");
    place.stride_bytes[place.part_count] = fields.Bytes(part, "stride_bytes");
    place.parts[place.part_count++] = {.file = fields.Int<int>(part, "file", 0, kLayersMax, 0),
                                       .offset = fields.Bytes(part, "offset"),
                                       .bytes = fields.Bytes(part, "bytes")};
  }
  header.catalog.layers.push_back(place);
}

void ReadStore(Fields& fields, const Json& store, TraceHeader& header) {
  if (!store.is_object()) return;
  header.budget_bytes = fields.Bytes(store, "budget_bytes");
  header.vram_budget_bytes = fields.Bytes(store, "vram_budget_bytes");
  header.policy = fields.Text(store, "policy");
  header.vram_policy = fields.Text(store, "vram_policy");
  header.admission = fields.Text(store, "admission");
  header.prefetch = fields.Text(store, "prefetch");
  header.place = fields.Text(store, "place");
  header.layer_floor = fields.Int<int>(store, "layer_floor", -1, INT32_MAX, -1);
  header.alignments = fields.Numbers<size_t>(store, "alignments");
  header.slot_counts = fields.Numbers<int64_t>(store, "slots");
  header.vram_slot_counts = fields.Numbers<int64_t>(store, "vram_slots");
}

// The value of each name; empty for one that we do not know.
template <typename Value>
std::vector<std::optional<Value>> ReadNames(const Json& names, absl::Span<const Value> values) {
  std::vector<std::optional<Value>> read;
  for (const Json& name : names) {
    read.emplace_back();
    for (const Value value : values) {
      if (name.is_string() && name.get<std::string>() == NameOf(value)) read.back() = value;
    }
  }
  return read;
}

}  // namespace

size_t IdBytesOf(const TraceHeader& header) {
  for (const TraceHeader::Layer& layer : header.layers) {
    if (layer.expert_count > 256) return 2;
  }
  return 1;
}

std::string HeaderJson(const TraceHeader& header) {
  ordered_json layers = ordered_json::array();
  for (const TraceHeader::Layer& layer : header.layers) {
    layers.push_back(LayerJson(layer, header.catalog.Find(layer.layer)));
  }
  const ordered_json json = {{"model", header.model},
                             {"model_hash", fmt::format("{:016x}", header.model_hash)},
                             {"top_k", header.top_k},
                             {"weights", header.weights_known ? "f16" : "none"},
                             {"id_bytes", IdBytesOf(header)},
                             {"causes", NamesOf(Causes())},
                             {"changes", NamesOf(ResidencyChanges())},
                             {"reasons", NamesOf(MissReasons())},
                             {"store",
                              {{"budget_bytes", header.budget_bytes},
                               {"vram_budget_bytes", header.vram_budget_bytes},
                               {"policy", header.policy},
                               {"vram_policy", header.vram_policy},
                               {"admission", header.admission},
                               {"prefetch", header.prefetch},
                               {"place", header.place},
                               {"layer_floor", header.layer_floor},
                               {"alignments", header.alignments},
                               {"slots", header.slot_counts},
                               {"vram_slots", header.vram_slot_counts}}},
                             {"settings", header.settings},
                             {"layers", layers}};
  // Names of files may hold bytes that are no UTF-8.
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

absl::StatusOr<ParsedTraceHeader> ParseHeader(std::string_view text) {
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return absl::InvalidArgumentError("it is no JSON object");
  Fields fields;
  ParsedTraceHeader parsed;
  TraceHeader& header = parsed.header;
  header.model = fields.Text(object, "model");
  const std::string hash = fields.Text(object, "model_hash");
  if (!ParseWhole(hash, &header.model_hash, 16)) fields.Fail("model_hash is no hexadecimal number");
  header.top_k = fields.Int<int>(object, "top_k", 0, kExpertsMax, 0);
  header.weights_known = fields.Text(object, "weights") == "f16";
  parsed.id_bytes = fields.Int<size_t>(object, "id_bytes", 1, 2, 1);
  header.settings = fields.Text(object, "settings");
  for (const Json& layer : fields.List(object, "layers")) ReadLayer(fields, layer, header);
  ReadStore(fields, object.value("store", Json()), header);
  for (const std::optional<Cause> cause : ReadNames(fields.List(object, "causes"), Causes())) {
    parsed.causes.push_back(cause.value_or(Cause::kOther));
  }
  parsed.changes = ReadNames(fields.List(object, "changes"), ResidencyChanges());
  parsed.reasons = ReadNames(fields.List(object, "reasons"), MissReasons());
  RETURN_IF_ERROR(fields.status());
  return parsed;
}

}  // namespace stoker
