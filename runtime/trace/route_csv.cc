// Reads "# route_trace v1": one line an expert of a token, with its router weight and whether the
// device that recorded it had the expert in memory.
//
// Comments hold the model and each layer's expert bytes; columns are turn, phase (0: prompt),
// step, layer, slot (router rank), expert, weight, residency, expert_bytes (read). The recording
// program runs a prompt layer by layer, the last layer for the last token alone.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/status.h"
#include "runtime/trace/text_table.h"
#include "runtime/trace/trace_formats.h"

namespace stoker {
namespace {

constexpr std::string_view kBeginning = "# route_trace";
constexpr std::string_view kColumns =
    "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes";
constexpr size_t kColumnCount = 9;
constexpr int kLayersMax = 4096;
constexpr int kExpertsMax = 65536;

// A line of the table.
struct Use {
  int turn = 0;
  bool is_prompt = false;
  int step = 0;  // position
  int layer_index = 0;
  int slot = 0;
  uint16_t expert = 0;
  bool was_resident = false;
  float weight = 0;
  int64_t line = 0;

  // In the order in which the recording device used experts: a prompt layer by layer, decoded
  // tokens one by one.
  std::array<int, 5> Order() const {
    return {turn, is_prompt ? 0 : 1, is_prompt ? layer_index : step, is_prompt ? step : layer_index,
            slot};
  }
  bool IsSameStepAs(const Use& other) const {
    return turn == other.turn && is_prompt == other.is_prompt && (is_prompt || step == other.step);
  }
};

// The text after "KEY=" up to the next space; empty when there is none. The value of a key that a
// path follows ends at `next_key` instead.
std::string_view ValueOf(std::string_view line, std::string_view key) {
  size_t begin = line.find(key);
  if (begin == std::string_view::npos) return {};
  begin += key.size();
  return line.substr(begin, line.find(' ', begin) - begin);
}

class RouteCsv {
 public:
  RouteCsv(const std::string& path, std::string_view text) : lines_(path, text) {}

  absl::StatusOr<Trace> Read() {
    RETURN_IF_ERROR(ReadLines());
    if (uses_.empty()) {
      return lines_.Error("no line of routing follows: the run was ended before its first token");
    }
    std::stable_sort(uses_.begin(), uses_.end(),
                     [](const Use& a, const Use& b) { return a.Order() < b.Order(); });
    for (size_t first = 0; first < uses_.size();) {
      size_t end = first + 1;
      while (end < uses_.size() && uses_[end].IsSameStepAs(uses_[first])) ++end;
      RETURN_IF_ERROR(AddStep({&uses_[first], end - first}));
      first = end;
    }
    return std::move(trace_);
  }

 private:
  absl::Status ReadLines() {
    for (std::string_view line; lines_.Next(&line);) {
      if (line.empty()) continue;
      if (line[0] == '#') {
        RETURN_IF_ERROR(ReadComment(line));
      } else if (line != kColumns) {
        RETURN_IF_ERROR(ReadUse(line));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadComment(std::string_view line) {
    TraceHeader& header = trace_.header;
    if (line.starts_with("# model=")) {
      // A path may hold spaces.
      constexpr std::string_view kModel = "# model=";
      header.model = std::string(line.substr(kModel.size(), line.find(" arch=") - kModel.size()));
      if (!ParseWhole(ValueOf(line, " n_expert="), &expert_count_) || expert_count_ < 1 ||
          expert_count_ > kExpertsMax) {
        return lines_.Error(
            fmt::format("n_expert is missing or not within 1 to {}: the comment is of another "
                        "version of the format",
                        kExpertsMax));
      }
      if (!ParseWhole(ValueOf(line, " n_expert_used="), &header.top_k) || header.top_k < 1 ||
          header.top_k > expert_count_) {
        return lines_.Error(
            "n_expert_used is missing or not within 1 to n_expert: the comment is "
            "of another version of the format");
      }
      return absl::OkStatus();
    }
    return line.starts_with("# layer=") ? ReadLayer(line) : absl::OkStatus();
  }

  absl::Status ReadLayer(std::string_view line) {
    TraceHeader::Layer layer = {.expert_count = expert_count_};
    if (!ParseWhole(ValueOf(line, "# layer="), &layer.layer) || layer.layer < 0 ||
        layer.layer >= kLayersMax ||
        !ParseWhole(ValueOf(line, " expert_bytes="), &layer.expert_bytes)) {
      return lines_.Error(
          "not '# layer=NUMBER expert_bytes=BYTES': the comment is of another "
          "version of the format");
    }
    if (expert_count_ == 0) {
      return lines_.Error(
          "no comment '# model=... n_expert=...' comes before this one: the "
          "beginning of the file is missing");
    }
    std::vector<TraceHeader::Layer>& layers = trace_.header.layers;
    if (layer.expert_bytes == 0) return absl::OkStatus();  // a dense layer
    if (!layers.empty() && layers.back().layer >= layer.layer) {
      return lines_.Error(fmt::format("layer {} comes after layer {}: two files were joined",
                                      layer.layer, layers.back().layer));
    }
    layer_index_[layer.layer] = static_cast<int>(layers.size());
    layers.push_back(layer);
    return absl::OkStatus();
  }

  absl::Status ReadUse(std::string_view line) {
    SplitText(line, ',', &fields_);
    if (fields_.size() != kColumnCount) return BadLine(line);
    Use use = {.line = lines_.number()};
    int phase = 0, layer = 0, expert = 0, residency = 0;
    uint64_t read_bytes = 0;
    const bool is_parsed = ParseWhole(fields_[0], &use.turn) && ParseWhole(fields_[1], &phase) &&
                           ParseWhole(fields_[2], &use.step) && ParseWhole(fields_[3], &layer) &&
                           ParseWhole(fields_[4], &use.slot) && ParseWhole(fields_[5], &expert) &&
                           ParseWhole(fields_[6], &use.weight) &&
                           ParseWhole(fields_[7], &residency) &&
                           ParseWhole(fields_[8], &read_bytes);
    if (!is_parsed) return BadLine(line);
    const auto found = layer_index_.find(layer);
    if (found == layer_index_.end()) {
      return lines_.Error(
          fmt::format("layer {} has no comment with its expert_bytes: the "
                      "beginning of the file is missing",
                      layer));
    }
    if (expert < 0 || expert >= expert_count_ || use.slot < 0 || use.slot >= trace_.header.top_k) {
      return lines_.Error(
          fmt::format("expert {} of slot {} in a model of {} experts, {} used: the line is damaged",
                      expert, use.slot, expert_count_, trace_.header.top_k));
    }
    use.is_prompt = phase == 0;
    use.layer_index = found->second;
    use.expert = static_cast<uint16_t>(expert);
    use.was_resident = residency != 0;
    uses_.push_back(use);
    return absl::OkStatus();
  }

  absl::Status BadLine(std::string_view line) const {
    return lines_.Error(
        fmt::format("'{}' is not {}: {}", line.substr(0, 80), kColumns,
                    lines_.is_whole() ? "the file is damaged" : "the end of the file was cut off"));
  }

  // `uses`: of one step, layer by layer, row by row, slot by slot.
  absl::Status AddStep(absl::Span<const Use> uses) {
    TraceStep step;
    step.step = static_cast<int64_t>(trace_.steps.size()) + 1;
    step.rows.first = static_cast<int64_t>(trace_.rows.size());
    step.routings.first = static_cast<int64_t>(trace_.routings.size());
    std::vector<int> positions;
    for (const Use& use : uses) positions.push_back(use.step);
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
    for (const int position : positions) {
      trace_.rows.push_back({.position = position, .is_prompt = uses[0].is_prompt});
    }
    for (size_t first = 0; first < uses.size();) {
      size_t end = first + 1;
      while (end < uses.size() && uses[end].layer_index == uses[first].layer_index) ++end;
      RETURN_IF_ERROR(AddRouting(uses.subspan(first, end - first), positions));
      first = end;
    }
    if (trace_.routings.size() - static_cast<size_t>(step.routings.first) !=
        trace_.header.layers.size()) {
      return lines_.ErrorAt(uses.back().line,
                            fmt::format("step {} does not have all of the {} layers: the file was "
                                        "cut off here, or lines were lost",
                                        uses.back().step, trace_.header.layers.size()));
    }
    step.rows.count = static_cast<int64_t>(trace_.rows.size()) - step.rows.first;
    step.routings.count = static_cast<int64_t>(trace_.routings.size()) - step.routings.first;
    trace_.steps.push_back(step);
    return absl::OkStatus();
  }

  // One layer of a step: every slot of the last rows.
  absl::Status AddRouting(absl::Span<const Use> uses, absl::Span<const int> positions) {
    const auto top_k = static_cast<size_t>(trace_.header.top_k);
    const size_t rows = (uses.size() + top_k - 1) / top_k;
    for (size_t i = 0; i < uses.size(); ++i) {
      const bool is_in_place = rows <= positions.size() &&
                               uses[i].slot == static_cast<int>(i % top_k) &&
                               uses[i].step == positions[positions.size() - rows + i / top_k];
      if (!is_in_place) return BadPlace(uses[i]);
    }
    if (uses.size() % top_k != 0) return BadPlace(uses.back());
    trace_.routings.push_back({.layer_index = uses[0].layer_index,
                               .top_k = trace_.header.top_k,
                               .first_id = static_cast<int64_t>(trace_.ids.size()),
                               .id_count = static_cast<int64_t>(uses.size())});
    for (const Use& use : uses) {
      trace_.ids.push_back(use.expert);
      trace_.weights.push_back(use.weight);
      trace_.was_resident.push_back(use.was_resident ? 1 : 0);
    }
    return absl::OkStatus();
  }

  absl::Status BadPlace(const Use& use) const {
    return lines_.ErrorAt(
        use.line,
        fmt::format("step {} layer {} does not have each of the slots 0 to {} once, or an earlier "
                    "row is missing: the file was cut off here, or lines were lost",
                    use.step, trace_.header.layers[static_cast<size_t>(use.layer_index)].layer,
                    trace_.header.top_k - 1));
  }

  TextLines lines_;
  Trace trace_;
  int expert_count_ = 0;
  std::map<int, int> layer_index_;  // by layer
  std::vector<Use> uses_;
  std::vector<std::string_view> fields_;
};

}  // namespace

bool RecognizesRouteCsv(const TraceSource& source) { return source.head.starts_with(kBeginning); }

absl::StatusOr<Trace> ReadRouteCsv(const std::string& path, const ReadTraceOptions&) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeText(path, kTraceTextBytesMax));
  ASSIGN_OR_RETURN(Trace trace, RouteCsv(path, text).Read());
  trace.header.weights_known = true;
  return trace;
}

}  // namespace stoker
