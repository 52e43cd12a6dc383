// A run of the shipped model as a trace in memory, with what the engine counted beside it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "runtime/engine.h"
#include "runtime/trace/trace.h"
#include "tests/runtime/shipped_model.h"

namespace stoker {

// Writes down rows and routings as a trace has them.
class TraceListener final : public StepObserver {
 public:
  void OnStep(absl::Span<const StepRow> rows) override {
    TraceStep step;
    step.step = static_cast<int64_t>(trace.steps.size()) + 1;
    step.rows = {static_cast<int64_t>(trace.rows.size()), static_cast<int64_t>(rows.size())};
    step.routings.first = static_cast<int64_t>(trace.routings.size());
    step.lookaheads.first = static_cast<int64_t>(trace.lookaheads.size());
    for (const StepRow& row : rows) {
      trace.rows.push_back({.sequence = row.sequence, .position = row.position});
    }
    trace.steps.push_back(step);
  }
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float>) override {
    trace.routings.push_back({.layer_index = IndexOf(layer),
                              .top_k = top_k,
                              .first_id = static_cast<int64_t>(trace.ids.size()),
                              .id_count = static_cast<int64_t>(experts.size())});
    ++trace.steps.back().routings.count;
    for (const int32_t expert : experts) trace.ids.push_back(static_cast<uint16_t>(expert));
  }

  void OnLookahead(int layer, int target_layer, int count, absl::Span<const int32_t> experts,
                   absl::Span<const float>) override {
    trace.lookaheads.push_back({.layer_index = IndexOf(layer),
                                .target_index = IndexOf(target_layer),
                                .count = count,
                                .first_id = static_cast<int64_t>(trace.guesses.size()),
                                .id_count = static_cast<int64_t>(experts.size())});
    ++trace.steps.back().lookaheads.count;
    for (const int32_t expert : experts) trace.guesses.push_back(static_cast<uint16_t>(expert));
  }

  Trace trace;

 private:
  int IndexOf(int layer) const {
    int index = 0;
    while (trace.header.layers[index].layer != layer) ++index;
    return index;
  }
};

struct RecordedRun {
  Trace trace;
  std::vector<StepRecord> steps;  // what the engine said of each
};

// What the engine was opened with, as a trace has it.
inline void DescribeStore(const Engine& engine, const EngineOptions& options, Trace& trace) {
  TraceHeader& header = trace.header;
  header.format = "stoker";
  header.catalog = engine.spec().experts;
  header.top_k = engine.spec().config.experts_used;
  for (const LayerExperts& experts : header.catalog.layers) {
    header.layers.push_back({.layer = experts.layer,
                             .expert_count = experts.expert_count,
                             .expert_bytes = ExpertCatalog::ExpertBytes(experts)});
  }
  auto reader = MakeBlockReader(options.io, {.direct = options.direct_io});
  EXPECT_TRUE(reader.ok() && reader->reader->AddFile(options.model_path).ok());
  header.alignments = {reader->reader->alignment(0)};
  const CachePlan& plan = engine.info().plan.cache;
  header.budget_bytes = plan.arena_bytes + plan.staging_bytes;
  for (const SlotClass& c : plan.classes) header.slot_counts.push_back(c.slot_count);
  header.vram_budget_bytes = plan.vram_bytes;
  for (const SlotClass& c : plan.vram_classes) header.vram_slot_counts.push_back(c.slot_count);
  trace.links = engine.info().links;
  header.policy = options.policy;
  header.admission = options.admission;
  header.prefetch = options.prefetch;
  header.layer_floor = options.layer_floor;
  if (engine.info().device.empty()) return;
  header.vram_policy = options.vram_policy_or_policy();
  header.place = NameOf(engine.info().place);
}

// Runs the sequences together, each of `tokens_max` tokens.
inline RecordedRun RecordRun(const EngineOptions& options, int sequence_count, int tokens_max,
                             Engine::Parts parts = {}, std::vector<TokenId> prompt = {}) {
  TraceListener listener;
  parts.observer = &listener;
  const auto engine = OpenOrDie(options, parts);
  DescribeStore(*engine, options, listener.trace);
  if (prompt.empty()) prompt = PromptIds(*engine);
  for (int i = 0; i < sequence_count; ++i) {
    const std::vector<TokenId> part(prompt.begin(), prompt.end() - 7 * i);
    EXPECT_TRUE(engine->Add(GreedyRequest(part, tokens_max)).ok());
  }
  RecordedRun run;
  while (!engine->idle()) {
    if (!engine->Step().ok()) break;
    run.steps.push_back(engine->last_step());
    for (int i = 0; i < engine->last_step().prompt_rows; ++i) {
      const TraceStep& step = listener.trace.steps.back();
      listener.trace.rows[step.rows.first + i].is_prompt = true;
    }
  }
  run.trace = std::move(listener.trace);
  return run;
}

}  // namespace stoker
