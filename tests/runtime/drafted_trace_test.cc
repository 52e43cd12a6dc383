// Claims of drafted_trace.h.
#include "runtime/simulation/drafted_trace.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "runtime/simulation/use_stream.h"

namespace stoker {
namespace {

// Two layers of which a token uses one expert each: its position, and that plus 100.
void AddStep(Trace& trace, const std::vector<TraceRow>& rows) {
  TraceStep step = {.step = static_cast<int64_t>(trace.steps.size()) + 1};
  step.rows = {static_cast<int64_t>(trace.rows.size()), static_cast<int64_t>(rows.size())};
  step.routings = {static_cast<int64_t>(trace.routings.size()), 2};
  trace.rows.insert(trace.rows.end(), rows.begin(), rows.end());
  for (int layer = 0; layer < 2; ++layer) {
    trace.routings.push_back({.layer_index = layer,
                              .top_k = 1,
                              .first_id = static_cast<int64_t>(trace.ids.size()),
                              .id_count = static_cast<int64_t>(rows.size())});
    for (const TraceRow& row : rows) {
      trace.ids.push_back(static_cast<uint16_t>(row.position + 100 * layer));
    }
  }
  trace.steps.push_back(step);
}

// A prompt of four tokens, then `count` tokens one by one, for each sequence.
Trace MakeTrace(int sequences, int count) {
  Trace trace;
  trace.header.top_k = 1;
  trace.header.layers = {{.layer = 0, .expert_count = 256, .expert_bytes = 10},
                         {.layer = 1, .expert_count = 256, .expert_bytes = 10}};
  std::vector<TraceRow> prompt;
  for (int sequence = 0; sequence < sequences; ++sequence) {
    for (int position = 0; position < 4; ++position) {
      prompt.push_back({.sequence = sequence, .position = position, .is_prompt = true});
    }
  }
  AddStep(trace, prompt);
  for (int token = 0; token < count; ++token) {
    std::vector<TraceRow> rows;
    for (int sequence = 0; sequence < sequences; ++sequence) {
      rows.push_back({.sequence = sequence, .position = 4 + token});
    }
    AddStep(trace, rows);
  }
  return trace;
}

int TokensOf(const Trace& trace) {
  int tokens = 0;
  for (const TraceStep& step : trace.steps) tokens += step.tokens;
  return tokens;
}

TEST(DraftedTrace, WithoutDraftsTheSameIsAskedFor) {
  const Trace trace = MakeTrace(2, 10);
  const Trace same = WithDrafts(trace, 0, {}, 1);
  ASSERT_EQ(same.steps.size(), trace.steps.size());
  EXPECT_EQ(same.ids, trace.ids);
  EXPECT_EQ(FlattenTrace(same, UseGrouping::kStep).uses,
            FlattenTrace(trace, UseGrouping::kStep).uses);
}

TEST(DraftedTrace, DraftsThatAreAlwaysRightNeedFewerStepsOfTheSameTokens) {
  const Trace dealt = WithDrafts(MakeTrace(1, 12), 3, {1.0}, 1);
  ASSERT_EQ(dealt.steps.size(), 1u + 3u);
  EXPECT_EQ(TokensOf(dealt), 12);
  for (size_t i = 1; i < dealt.steps.size(); ++i) {
    EXPECT_EQ(dealt.steps[i].rows.count, 4);
    EXPECT_EQ(dealt.steps[i].drafts_right, 3);
  }
  const std::vector<uint16_t> layer(dealt.ids.begin() + 8, dealt.ids.begin() + 12);
  EXPECT_EQ(layer, (std::vector<uint16_t>{4, 5, 6, 7}));
}

TEST(DraftedTrace, DraftsThatAreAlwaysWrongAddRowsAndNoTokens) {
  const Trace dealt = WithDrafts(MakeTrace(1, 12), 3, {0.0}, 1);
  EXPECT_EQ(dealt.steps.size(), 1u + 12u);
  EXPECT_EQ(TokensOf(dealt), 12);
  EXPECT_EQ(dealt.steps[1].draft_rows, 3);
  EXPECT_EQ(dealt.steps.back().draft_rows, 0);  // there is nothing behind the last token
  const UseStream stream = FlattenTrace(dealt, UseGrouping::kStep);
  EXPECT_EQ(stream.steps[1].decode_rows, 1);
  EXPECT_EQ(stream.uses_of(stream.steps[1].first_request).size(), 4u);
}

TEST(DraftedTrace, EverySequenceGoesOnAtItsOwnPace) {
  const Trace dealt = WithDrafts(MakeTrace(3, 40), 2, {0.5}, 7);
  std::vector<std::set<int32_t>> positions(3);
  for (const TraceRow& row : dealt.rows) {
    if (!row.is_prompt) positions[static_cast<size_t>(row.sequence)].insert(row.position);
  }
  for (const auto& of_sequence : positions) EXPECT_EQ(of_sequence.size(), 40u);
  EXPECT_EQ(TokensOf(dealt), 120);
}

TEST(DraftedTrace, TheAcceptanceOfARunIsReadFromItsTrace) {
  const AcceptanceByPlace set = {0.8, 0.5};
  const AcceptanceByPlace found = AcceptanceOf(WithDrafts(MakeTrace(1, 200), 2, set, 3));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_NEAR(found[0], 0.8, 0.12);
  EXPECT_NEAR(found[1], 0.5, 0.15);
  EXPECT_TRUE(AcceptanceOf(MakeTrace(1, 20)).empty());
}

TEST(DraftedTrace, ATraceWithDraftsIsDealtOutFromTheTokensThatCame) {
  const Trace drafted = WithDrafts(MakeTrace(2, 60), 3, {0.6}, 3);
  const Trace plain = WithDrafts(drafted, 0, {}, 1);
  EXPECT_EQ(TokensOf(plain), 120);
  for (const TraceRow& row : plain.rows) EXPECT_FALSE(row.is_draft);
}

}  // namespace
}  // namespace stoker
