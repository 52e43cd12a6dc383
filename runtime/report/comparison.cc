// Rows matched by sequence and position.
#include "runtime/report/comparison.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace stoker {
namespace {

// The experts of one row at one layer.
struct Choice {
  const uint16_t* ids = nullptr;
  int count = 0;
};

struct LayerRow {
  int32_t layer_index = 0;
  int32_t sequence = 0;
  int32_t position = 0;
  bool is_prompt = false;

  friend bool operator==(const LayerRow& a, const LayerRow& b) {
    return a.layer_index == b.layer_index && a.sequence == b.sequence && a.position == b.position;
  }
  template <typename H>
  friend H AbslHashValue(H hash, const LayerRow& row) {
    return H::combine(std::move(hash), row.layer_index, row.sequence, row.position);
  }
};

// Calls visit(LayerRow, Choice) for every row of every layer.
template <typename Visit>
void ForEachChoice(const Trace& trace, Visit visit) {
  for (const TraceStep& step : trace.steps) {
    for (int64_t i = 0; i < step.routings.count; ++i) {
      const TraceRouting& routing = trace.routings[static_cast<size_t>(step.routings.first + i)];
      if (routing.top_k == 0) continue;
      const int64_t rows = routing.id_count / routing.top_k;
      const int64_t first_row = step.rows.first + step.rows.count - rows;
      for (int64_t r = 0; r < rows; ++r) {
        const TraceRow& row = trace.rows[static_cast<size_t>(first_row + r)];
        visit(LayerRow{routing.layer_index, row.sequence, row.position, row.is_prompt},
              Choice{trace.ids.data() + routing.first_id + r * routing.top_k, routing.top_k});
      }
    }
  }
}

std::string ProblemOf(const TraceHeader& first, const TraceHeader& other) {
  if (first.layers.size() != other.layers.size()) {
    return fmt::format("one model has {} layers with experts, the other {}", first.layers.size(),
                       other.layers.size());
  }
  for (size_t i = 0; i < first.layers.size(); ++i) {
    const TraceHeader::Layer& a = first.layers[i];
    const TraceHeader::Layer& b = other.layers[i];
    if (a.layer != b.layer || a.expert_count != b.expert_count) {
      return fmt::format("layer {} has {} experts in one model, layer {} has {} in the other",
                         a.layer, a.expert_count, b.layer, b.expert_count);
    }
  }
  return "";
}

void AddRow(LayerAgreement::Rows& rows, const Choice& a, const Choice& b) {
  ++rows.count;
  rows.chosen += a.count;
  rows.shared += std::count_if(a.ids, a.ids + a.count, [&b](uint16_t expert) {
    return std::find(b.ids, b.ids + b.count, expert) != b.ids + b.count;
  });
  rows.same_best += a.ids[0] == b.ids[0] ? 1 : 0;
}

}  // namespace

Agreement CompareChoices(const Trace& first, const Trace& other) {
  Agreement agreement = {.problem = ProblemOf(first.header, other.header)};
  if (!agreement.problem.empty()) return agreement;
  agreement.best_known = first.header.ranks_known && other.header.ranks_known;
  for (const TraceHeader::Layer& layer : first.header.layers) {
    agreement.layers.push_back({.layer = layer.layer});
  }
  absl::flat_hash_map<LayerRow, Choice> choices;
  ForEachChoice(other, [&](const LayerRow& row, const Choice& choice) { choices[row] = choice; });
  int64_t matched = 0;
  ForEachChoice(first, [&](const LayerRow& row, const Choice& choice) {
    const auto found = choices.find(row);
    if (found == choices.end() || found->first.is_prompt != row.is_prompt) return;
    LayerAgreement& layer = agreement.layers[static_cast<size_t>(row.layer_index)];
    AddRow(row.is_prompt ? layer.prompt : layer.decode, choice, found->second);
    ++matched;
  });
  if (matched == 0) {
    agreement.problem = "no row of one run has the sequence and position of a row of the other";
  }
  return agreement;
}

}  // namespace stoker
