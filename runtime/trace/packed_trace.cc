// Reads packed ids: NAME.ids.u8, bytes [token][layer][rank], and NAME.json with their shape and
// sequences.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "runtime/trace/text_table.h"
#include "runtime/trace/trace_formats.h"

namespace stoker {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kIdsEnding = ".ids.u8";
constexpr std::string_view kShapeEnding = ".json";
// Far above any model; so products of them cannot overflow.
constexpr int64_t kCountMax = 65536;

struct Paths {
  std::string shape;
  std::string ids;
};

// Of either of the two.
Paths PathsOf(const std::string& path) {
  const std::string_view ending = path.ends_with(kIdsEnding) ? kIdsEnding : kShapeEnding;
  const std::string stem = path.substr(0, path.size() - std::min(path.size(), ending.size()));
  return {.shape = fmt::format("{}{}", stem, kShapeEnding),
          .ids = fmt::format("{}{}", stem, kIdsEnding)};
}

// Reads the shape's fields, keeping the first thing that is wrong.
class Shape {
 public:
  Shape(std::string path, Json json) : path_(std::move(path)), json_(std::move(json)) {}

  const Json& json() const { return json_; }
  const absl::Status& status() const { return status_; }

  // `where` names the object in messages, "" for the whole.
  int64_t Int(const Json& object, const char* key, int64_t minimum, int64_t maximum,
              std::string_view where = "") {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number_integer()) {
      Fail(fmt::format("{}{} is missing or no whole number", where, key));
      return minimum;
    }
    // A number above the range of int64_t would come out negative: outside of every range too.
    const auto value = found->get<int64_t>();
    if (value < minimum || value > maximum) {
      Fail(fmt::format("{}{} is {}, outside of {} to {}", where, key, value, minimum, maximum));
      return minimum;
    }
    return value;
  }
  int64_t IntOr(const Json& object, const char* key, int64_t fallback, std::string_view where) {
    return object.contains(key) ? Int(object, key, 0, INT32_MAX, where) : fallback;
  }
  static std::string TextOr(const Json& object, const char* key, std::string fallback) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
  }
  void Fail(std::string_view what) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(fmt::format(
        "{}: {}: the file was written by hand or by a program of another version", path_, what));
  }

 private:
  std::string path_;
  Json json_;
  absl::Status status_;
};

struct Sequence {
  int64_t start = 0;  // token
  int64_t token_count = 0;
  int64_t first_position = 0;
  bool is_prompt = false;
  bool is_left_out = false;
};

absl::StatusOr<Shape> ReadShape(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeText(path, kTraceTextBytesMax));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: it is no JSON object: it was cut off while it was copied, or is something "
                    "else\n  try: copying it again",
                    path));
  }
  return Shape(path, std::move(json));
}

Sequence ReadSequence(Shape& shape, const Json& json, size_t index, int64_t token_count,
                      const ReadTraceOptions& options) {
  const std::string where = fmt::format("sequences[{}].", index);
  if (!json.is_object()) {
    shape.Fail(fmt::format("sequences[{}] is no object", index));
    return {};
  }
  Sequence sequence;
  sequence.start = shape.Int(json, "start", 0, token_count, where);
  sequence.token_count = shape.Int(json, "n_tokens", 0, token_count - sequence.start, where);
  sequence.first_position = shape.IntOr(json, "first_pos", 0, where);
  const std::string phase = Shape::TextOr(json, "phase", "decode");
  sequence.is_prompt = phase == "prompt" || phase == "prefill";
  if (!sequence.is_prompt && phase != "decode") {
    shape.Fail(fmt::format("{}phase is '{}', neither decode nor prompt", where, phase));
  }
  const auto repetition = json.find("repetition");
  const bool is_repetition =
      repetition != json.end() && repetition->is_boolean() && repetition->get<bool>();
  sequence.is_left_out = is_repetition && !options.keep_repetition;
  return sequence;
}

std::vector<Sequence> ReadSequences(Shape& shape, int64_t token_count,
                                    const ReadTraceOptions& options) {
  const auto list = shape.json().find("sequences");
  if (list == shape.json().end()) return {{.token_count = token_count}};
  if (!list->is_array()) shape.Fail("sequences is no list");
  std::vector<Sequence> sequences;
  for (const Json& json : *list) {
    sequences.push_back(ReadSequence(shape, json, sequences.size(), token_count, options));
  }
  return sequences;
}

TraceHeader ReadHeader(Shape& shape) {
  const Json& json = shape.json();
  TraceHeader header;
  header.model = Shape::TextOr(json, "model", "");
  header.top_k = static_cast<int>(shape.Int(json, "top_k", 1, kCountMax));
  header.ranks_known = Shape::TextOr(json, "order", "").find("router rank") != std::string::npos;
  const auto layer_count = static_cast<int>(shape.Int(json, "n_layers", 1, kCountMax));
  const auto expert_count = static_cast<int>(shape.Int(json, "n_experts", 1, 256));
  const auto first_layer = static_cast<int>(shape.IntOr(json, "first_moe_layer", 0, ""));
  if (!shape.status().ok()) return header;
  for (int layer = 0; layer < layer_count; ++layer) {
    header.layers.push_back(
        {.layer = first_layer + layer, .expert_count = expert_count, .expert_bytes = 1});
  }
  return header;
}

class Packer {
 public:
  Packer(Trace& trace, const std::string& ids_path, std::string_view ids)
      : trace_(trace), ids_path_(ids_path), ids_(ids) {}

  // A prompt is one step of all its tokens, a decoded token a step of its own. Decoded tokens right
  // after a prompt continue it; otherwise each entry is a sequence of its own.
  absl::Status Add(const Sequence& sequence) {
    if (!(after_prompt_ && !sequence.is_prompt)) ++sequence_;
    after_prompt_ = sequence.is_prompt;
    const int64_t rows = sequence.is_prompt ? sequence.token_count : 1;
    for (int64_t token = 0; token < sequence.token_count; token += rows) {
      RETURN_IF_ERROR(AddStep(sequence, token, rows));
    }
    return absl::OkStatus();
  }

 private:
  int64_t layer_count() const { return static_cast<int64_t>(trace_.header.layers.size()); }

  absl::Status AddStep(const Sequence& sequence, int64_t first, int64_t rows) {
    TraceStep step;
    step.step = static_cast<int64_t>(trace_.steps.size()) + 1;
    step.sequence_group = sequence_;
    step.rows = {static_cast<int64_t>(trace_.rows.size()), rows};
    step.routings = {static_cast<int64_t>(trace_.routings.size()), layer_count()};
    for (int64_t row = 0; row < rows; ++row) {
      trace_.rows.push_back(
          {.sequence = sequence_,
           .position = static_cast<int32_t>(sequence.first_position + first + row),
           .is_prompt = sequence.is_prompt});
    }
    for (int layer = 0; layer < layer_count(); ++layer) {
      const auto first_id = static_cast<int64_t>(trace_.ids.size());
      RETURN_IF_ERROR(AddIds(sequence.start + first, rows, layer));
      trace_.routings.push_back({.layer_index = layer,
                                 .top_k = trace_.header.top_k,
                                 .first_id = first_id,
                                 .id_count = rows * trace_.header.top_k});
    }
    trace_.steps.push_back(step);
    return absl::OkStatus();
  }

  absl::Status AddIds(int64_t first_token, int64_t rows, int layer) {
    const int top_k = trace_.header.top_k;
    const int expert_count = trace_.header.layers.front().expert_count;
    for (int64_t token = first_token; token < first_token + rows; ++token) {
      const int64_t place = (token * layer_count() + layer) * top_k;
      for (int rank = 0; rank < top_k; ++rank) {
        const uint8_t id = static_cast<uint8_t>(ids_[static_cast<size_t>(place + rank)]);
        if (id >= expert_count) {
          return absl::InvalidArgumentError(fmt::format(
              "{} byte {}: expert {} of token {}, layer index {}, but the JSON beside it names {} "
              "experts a layer: the two files do not belong together, or one is damaged",
              ids_path_, place + rank, id, token, layer, expert_count));
        }
        trace_.ids.push_back(id);
      }
    }
    return absl::OkStatus();
  }

  Trace& trace_;
  const std::string& ids_path_;
  std::string_view ids_;
  int32_t sequence_ = -1;
  bool after_prompt_ = false;
};

}  // namespace

bool RecognizesPacked(const TraceSource& source) {
  if (source.is_folder) return false;
  std::error_code error;
  const Paths paths = PathsOf(source.path);
  if (source.path == paths.ids) return std::filesystem::exists(paths.shape, error);
  const size_t first = source.head.find_first_not_of(" \t\r\n");
  return first != std::string::npos && source.head[first] == '{' &&
         source.head.find("\"n_layers\"") != std::string::npos;
}

absl::StatusOr<Trace> ReadPacked(const std::string& path, const ReadTraceOptions& options) {
  const Paths paths = PathsOf(path);
  ASSIGN_OR_RETURN(Shape shape, ReadShape(paths.shape));
  Trace trace;
  trace.header = ReadHeader(shape);
  const int64_t token_count = shape.Int(shape.json(), "n_tokens", 0, INT32_MAX);
  const std::vector<Sequence> sequences = ReadSequences(shape, token_count, options);
  RETURN_IF_ERROR(shape.status());
  const absl::StatusOr<std::string> ids = ReadWholeText(paths.ids, kTraceTextBytesMax);
  if (!ids.ok()) {
    return WithContext(ids.status(), fmt::format("the ids that {} describes", paths.shape));
  }
  const auto bytes = static_cast<uint64_t>(token_count) * trace.header.layers.size() *
                     static_cast<uint64_t>(trace.header.top_k);
  if (ids->size() != bytes) {
    return absl::InvalidArgumentError(fmt::format(
        "{} has {} bytes, but {} describes {} tokens of {} layers and {} experts, {} bytes: it was "
        "cut off while it was copied, or the two do not belong together\n  try: copying both again",
        paths.ids, ids->size(), paths.shape, token_count, trace.header.layers.size(),
        trace.header.top_k, bytes));
  }
  Packer packer(trace, paths.ids, *ids);
  for (const Sequence& sequence : sequences) {
    if (!sequence.is_left_out) RETURN_IF_ERROR(packer.Add(sequence));
  }
  return trace;
}

}  // namespace stoker
