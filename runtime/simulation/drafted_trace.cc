// Takes the decoded tokens of a trace apart by sequence, and deals them out again.
#include "runtime/simulation/drafted_trace.h"

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "base/check.h"
#include "runtime/trace/draft_counts.h"

namespace stoker {
namespace {

// A row of the recorded run.
struct RowPlace {
  int64_t step = 0;
  int64_t row = 0;  // of the step
};

// The tokens that one sequence decoded between two steps with prompts, in order.
struct DecodedTokens {
  std::vector<std::pair<int32_t, RowPlace>> by_position;
  size_t next = 0;
};

bool HasPrompt(const Trace& trace, const TraceStep& step) {
  for (int64_t i = 0; i < step.rows.count; ++i) {
    if (trace.rows[static_cast<size_t>(step.rows.first + i)].is_prompt) return true;
  }
  return false;
}

class Dealer {
 public:
  Dealer(const Trace& trace, int length, const AcceptanceByPlace& acceptance, uint64_t seed)
      : trace_(trace), length_(length), acceptance_(acceptance), random_(seed) {
    dealt_.header = trace.header;
  }

  Trace Deal() {
    for (size_t i = 0; i < trace_.steps.size(); ++i) {
      const TraceStep& step = trace_.steps[i];
      const bool is_prompt = HasPrompt(trace_, step);
      if (is_prompt || step.sequence_group != group_) DealDecoded();
      group_ = step.sequence_group;
      is_prompt ? Copy(static_cast<int64_t>(i)) : Gather(static_cast<int64_t>(i));
    }
    DealDecoded();
    return std::move(dealt_);
  }

 private:
  // A position that comes again was a draft that was wrong: the later row is the token that came.
  void Gather(int64_t step_index) {
    const TraceStep& step = trace_.steps[static_cast<size_t>(step_index)];
    for (int64_t i = 0; i < step.rows.count; ++i) {
      const TraceRow& row = trace_.rows[static_cast<size_t>(step.rows.first + i)];
      auto& tokens = decoded_[row.sequence].by_position;
      while (!tokens.empty() && tokens.back().first >= row.position) tokens.pop_back();
      tokens.push_back({row.position, {step_index, i}});
    }
  }

  void DealDecoded() {
    for (bool goes_on = true; goes_on;) {
      std::vector<RowPlace> rows;
      Begin();
      for (auto& [sequence, tokens] : decoded_) Take(sequence, tokens, rows);
      goes_on = !rows.empty();
      if (goes_on) End(rows);
    }
    decoded_.clear();
  }

  void Take(int32_t sequence, DecodedTokens& tokens, std::vector<RowPlace>& rows) {
    const size_t left = tokens.by_position.size() - tokens.next;
    if (left == 0) return;
    const size_t count = std::min(left, static_cast<size_t>(length_) + 1);
    for (size_t i = 0; i < count; ++i) {
      const auto& [position, place] = tokens.by_position[tokens.next + i];
      dealt_.rows.push_back({.sequence = sequence, .position = position, .is_draft = i > 0});
      rows.push_back(place);
    }
    size_t right = 0;
    while (right + 1 < count && Happens(right)) ++right;
    step_.draft_rows += static_cast<int>(count - 1);
    step_.drafts_right += static_cast<int>(right);
    step_.tokens += static_cast<int>(right + 1);
    tokens.next += right + 1;
  }

  bool Happens(size_t place) {
    const double chance = acceptance_[std::min(place, acceptance_.size() - 1)];
    return std::uniform_real_distribution<>()(random_) < chance;
  }

  void Begin() {
    step_ = {.sequence_group = group_};
    step_.rows.first = static_cast<int64_t>(dealt_.rows.size());
    step_.routings.first = static_cast<int64_t>(dealt_.routings.size());
  }

  // Each layer's choices of the rows, layer by layer.
  void End(const std::vector<RowPlace>& rows) {
    step_.step = static_cast<int64_t>(dealt_.steps.size()) + 1;
    step_.rows.count = static_cast<int64_t>(rows.size());
    const TraceStep& first = trace_.steps[static_cast<size_t>(rows.front().step)];
    for (int64_t r = 0; r < first.routings.count; ++r) {
      const TraceRouting& model = trace_.routings[static_cast<size_t>(first.routings.first + r)];
      TraceRouting routing = {.layer_index = model.layer_index,
                              .top_k = model.top_k,
                              .first_id = static_cast<int64_t>(dealt_.ids.size())};
      for (const RowPlace& row : rows) AddChoices(row, r, model.top_k);
      routing.id_count = static_cast<int64_t>(dealt_.ids.size()) - routing.first_id;
      dealt_.routings.push_back(routing);
    }
    step_.routings.count = static_cast<int64_t>(dealt_.routings.size()) - step_.routings.first;
    dealt_.steps.push_back(step_);
  }

  void AddChoices(const RowPlace& place, int64_t routing_index, int top_k) {
    const TraceStep& step = trace_.steps[static_cast<size_t>(place.step)];
    CHECK(routing_index < step.routings.count);
    const TraceRouting& routing =
        trace_.routings[static_cast<size_t>(step.routings.first + routing_index)];
    CHECK(routing.top_k == top_k);
    const auto begin = trace_.ids.begin() + routing.first_id + place.row * top_k;
    dealt_.ids.insert(dealt_.ids.end(), begin, begin + top_k);
  }

  void Copy(int64_t step_index) {
    Begin();
    const TraceStep& step = trace_.steps[static_cast<size_t>(step_index)];
    const auto rows = trace_.rows.begin() + step.rows.first;
    dealt_.rows.insert(dealt_.rows.end(), rows, rows + step.rows.count);
    for (int64_t r = 0; r < step.routings.count; ++r) {
      TraceRouting routing = trace_.routings[static_cast<size_t>(step.routings.first + r)];
      const auto ids = trace_.ids.begin() + routing.first_id;
      routing.first_id = static_cast<int64_t>(dealt_.ids.size());
      dealt_.ids.insert(dealt_.ids.end(), ids, ids + routing.id_count);
      dealt_.routings.push_back(routing);
    }
    step_.step = static_cast<int64_t>(dealt_.steps.size()) + 1;
    step_.tokens = step.tokens;
    step_.rows.count = step.rows.count;
    step_.routings.count = step.routings.count;
    dealt_.steps.push_back(step_);
  }

  const Trace& trace_;
  const int length_;
  const AcceptanceByPlace& acceptance_;
  std::mt19937_64 random_;
  std::map<int32_t, DecodedTokens> decoded_;  // by sequence
  int group_ = 0;
  TraceStep step_;  // being dealt
  Trace dealt_;
};

}  // namespace

AcceptanceByPlace AcceptanceOf(const Trace& trace) {
  AcceptanceByPlace acceptance;
  for (const DraftCount& count : CountDrafts(trace)) {
    acceptance.push_back(static_cast<double>(count.right) / static_cast<double>(count.checked));
  }
  return acceptance;
}

Trace WithDrafts(const Trace& trace, int length, const AcceptanceByPlace& acceptance,
                 uint64_t seed) {
  CHECK(length >= 0 && (length == 0 || !acceptance.empty()));
  return Dealer(trace, length, acceptance, seed).Deal();
}

}  // namespace stoker
