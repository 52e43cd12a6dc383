// Turns rows and routings into requests.
#include "runtime/simulation/use_stream.h"

#include <algorithm>

#include "base/check.h"

namespace stoker {
namespace {

class Flattener {
 public:
  Flattener(const Trace& trace, UseGrouping grouping) : trace_(trace), grouping_(grouping) {
    for (const TraceHeader::Layer& layer : trace.header.layers) {
      const auto layer_index = static_cast<int32_t>(stream_.first_keys.size());
      stream_.first_keys.push_back(static_cast<int32_t>(stream_.layer_of_key.size()));
      stream_.bytes_of_layer.push_back(layer.expert_bytes);
      stream_.layer_of_key.insert(stream_.layer_of_key.end(),
                                  static_cast<size_t>(layer.expert_count), layer_index);
    }
    last_request_of_key_.assign(stream_.layer_of_key.size(), -1);
    stream_.uses.reserve(trace.ids.size());
  }

  UseStream Take() && {
    for (const TraceStep& step : trace_.steps) AddStep(step);
    return std::move(stream_);
  }

 private:
  void AddStep(const TraceStep& step) {
    UseStream::Step flat = {.first_request = static_cast<int64_t>(stream_.requests.size())};
    bool goes_on = false;
    for (int64_t i = 0; i < step.rows.count; ++i) {
      const TraceRow& row = trace_.rows[step.rows.first + i];
      flat.is_prompt = flat.is_prompt || row.is_prompt;
      flat.decode_rows += row.is_prompt || row.is_draft ? 0 : 1;
      goes_on = goes_on || row.sequence <= last_sequence_;
    }
    flat.decode_rows += step.drafts_right;
    for (int64_t i = 0; i < step.rows.count; ++i) {
      last_sequence_ = std::max(last_sequence_, trace_.rows[step.rows.first + i].sequence);
    }
    flat.starts_prompt = !goes_on || step.sequence_group != group_;
    group_ = step.sequence_group;
    stream_.steps.push_back(flat);
    for (int64_t i = 0; i < step.routings.count; ++i) {
      AddRouting(step, trace_.routings[step.routings.first + i], flat.is_prompt);
    }
  }

  void AddRouting(const TraceStep& step, const TraceRouting& routing, bool is_prompt) {
    CHECK(routing.top_k > 0 && routing.id_count % routing.top_k == 0);
    const int64_t row_count = routing.id_count / routing.top_k;
    // A layer that ran for fewer rows ran for the last ones.
    const int64_t first_row = step.rows.first + step.rows.count - row_count;
    for (int64_t row = 0; row < row_count; ++row) {
      const bool row_is_prompt = trace_.rows[first_row + row].is_prompt;
      const bool phase = grouping_ == UseGrouping::kRow ? row_is_prompt : is_prompt;
      (phase ? stream_.prompt_token_uses : stream_.token_uses) += routing.top_k;
      if (row == 0 || grouping_ == UseGrouping::kRow) BeginRequest(routing.layer_index, phase);
      for (int rank = 0; rank < routing.top_k; ++rank) {
        AddUse(routing.layer_index, trace_.ids[routing.first_id + row * routing.top_k + rank]);
      }
    }
  }

  void BeginRequest(int layer_index, bool is_prompt) {
    stream_.requests.push_back({.first_use = static_cast<int64_t>(stream_.uses.size()),
                                .layer_index = layer_index,
                                .is_prompt = is_prompt});
  }

  void AddUse(int layer_index, int expert) {
    const ExpertKey key = stream_.first_keys[layer_index] + expert;
    const auto request = static_cast<int64_t>(stream_.requests.size());
    if (last_request_of_key_[key] == request) return;  // by another row
    last_request_of_key_[key] = request;
    stream_.uses.push_back(key);
  }

  const Trace& trace_;
  const UseGrouping grouping_;
  UseStream stream_;
  std::vector<int64_t> last_request_of_key_;
  int32_t last_sequence_ = -1;
  int group_ = -1;
};

}  // namespace

UseStream FlattenTrace(const Trace& trace, UseGrouping grouping) {
  return Flattener(trace, grouping).Take();
}

}  // namespace stoker
