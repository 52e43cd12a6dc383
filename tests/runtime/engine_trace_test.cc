// A trace of the shipped model's run holds what another observer of the same run saw.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/formats/half.h"
#include "runtime/engine.h"
#include "runtime/trace/trace.h"
#include "tests/runtime/shipped_model.h"
#include "tests/runtime/trace_text.h"
#include "tests/testing/temporary_directory.h"

namespace stoker {
namespace {

using testing::HasSubstr;

// What the engine says of each step, beside the trace.
struct SeenRun {
  std::vector<StepRecord> steps;
  CacheCounts counts;
};

class EngineTrace : public testing::Test {
 protected:
  std::string path() const { return folder_.File("run.trace"); }

  SeenRun Run(EngineOptions options, int tokens) const {
    options.trace_path = path();
    const auto engine = OpenOrDie(options);
    SeenRun seen;
    EXPECT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), tokens)).ok());
    EXPECT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), tokens / 2)).ok());
    while (!engine->idle()) {
      EXPECT_TRUE(engine->Step().ok());
      seen.steps.push_back(engine->last_step());
    }
    EXPECT_TRUE(engine->info().late_notices.empty());
    seen.counts = engine->cache_counts();
    return seen;
  }
  Trace Read() const {
    absl::StatusOr<Trace> trace = ReadTrace(path());
    EXPECT_TRUE(trace.ok()) << trace.status();
    return trace.ok() ? *std::move(trace) : Trace();
  }
  TemporaryDirectory folder_;
};

EngineOptions TwoSequences() {
  EngineOptions options = SmallOptions();
  options.sequences_max = 2;
  return options;
}

TEST_F(EngineTrace, StepsHaveTheTimesAndCountsOfTheirRecords) {
  const SeenRun seen = Run(TwoSequences(), 12);
  const Trace trace = Read();
  EXPECT_EQ(trace.notice, "");
  ASSERT_EQ(trace.steps.size(), seen.steps.size());
  int64_t end_ns = 0;
  for (size_t i = 0; i < seen.steps.size(); ++i) {
    const TraceStep& step = trace.steps[i];
    const StepRecord& record = seen.steps[i];
    EXPECT_EQ(step.step, record.step);
    EXPECT_EQ(step.wall_ns, record.wall_ns);
    EXPECT_EQ(step.causes, record.causes);
    EXPECT_EQ(step.tokens, record.tokens);
    EXPECT_EQ(step.hits, record.hits);
    EXPECT_EQ(step.misses_count, record.misses);
    EXPECT_EQ(step.read_bytes, record.read_bytes);
    EXPECT_EQ(step.host_experts, record.host_experts);
    EXPECT_EQ(step.drive_busy_ns, record.drive_busy_ns);
    EXPECT_GE(step.begin_ns, end_ns);
    end_ns = step.begin_ns + step.wall_ns;
    ASSERT_EQ(step.misses.count, static_cast<int64_t>(record.worst_misses.size()));
    for (int64_t m = 0; m < step.misses.count; ++m) {
      const MissRecord& read = trace.misses[static_cast<size_t>(step.misses.first + m)];
      const MissRecord& told = record.worst_misses[static_cast<size_t>(m)];
      EXPECT_EQ(read.id, told.id);
      EXPECT_EQ(read.reason, told.reason);
      EXPECT_EQ(read.evicted_step, told.evicted_step);
      EXPECT_EQ(read.read_ns, told.read_ns);
      EXPECT_EQ(read.read_bytes, told.read_bytes);
    }
  }
}

TEST_F(EngineTrace, RowsAndResidencyAddUp) {
  const SeenRun seen = Run(TwoSequences(), 12);
  const Trace trace = Read();
  int prompt_rows = 0, decode_rows = 0;
  std::vector<int> next_position(2, 0);
  for (const TraceRow& row : trace.rows) {
    (row.is_prompt ? prompt_rows : decode_rows) += 1;
    ASSERT_LT(row.sequence, 2);
    EXPECT_EQ(row.position, next_position[static_cast<size_t>(row.sequence)]++);
  }
  int seen_prompt_rows = 0, seen_decode_rows = 0;
  for (const StepRecord& record : seen.steps) {
    seen_prompt_rows += record.prompt_rows;
    seen_decode_rows += record.decode_rows;
  }
  EXPECT_EQ(prompt_rows, seen_prompt_rows);
  EXPECT_EQ(decode_rows, seen_decode_rows);
  uint64_t reads = 0, evictions = 0, read_bytes = 0;
  for (const TraceResidency& change : trace.residency) {
    reads += change.change == ResidencyChange::kRead ? 1 : 0;
    evictions += change.change == ResidencyChange::kEvicted ? 1 : 0;
    if (change.change == ResidencyChange::kRead) read_bytes += change.bytes;
  }
  EXPECT_EQ(reads, seen.counts.misses);
  EXPECT_EQ(evictions, seen.counts.evictions);
  EXPECT_GT(read_bytes, 0u);
  EXPECT_LE(read_bytes, seen.counts.read_bytes);
}

TEST_F(EngineTrace, EveryLayerOfEveryRowHasItsExperts) {
  Run(TwoSequences(), 6);
  const Trace trace = Read();
  const auto top_k = static_cast<size_t>(trace.header.top_k);
  for (const TraceStep& step : trace.steps) {
    ASSERT_EQ(step.routings.count, static_cast<int64_t>(trace.header.layers.size()));
    for (int64_t i = 0; i < step.routings.count; ++i) {
      const TraceRouting& routing = trace.routings[static_cast<size_t>(step.routings.first + i)];
      EXPECT_EQ(routing.layer_index, i);
      EXPECT_EQ(routing.id_count, step.rows.count * trace.header.top_k);
    }
  }
  ASSERT_EQ(trace.ids.size(), trace.rows.size() * trace.header.layers.size() * top_k);
  ASSERT_EQ(trace.weights.size(), trace.ids.size());
  // Both sequences have the same prompt, so the same routing.
  const TraceStep& first = trace.steps.front();
  EXPECT_GT(first.rows.count, 1);
}

// The same run twice, once without weights: those are all that is left out.
TEST_F(EngineTrace, WithoutWeightsTheRestIsTheSame) {
  const SeenRun recorded = Run(TwoSequences(), 8);
  const std::vector<uint16_t> ids = Read().ids;
  EngineOptions options = TwoSequences();
  options.trace_ids_only = true;
  const SeenRun again = Run(options, 8);
  const Trace trace = Read();
  EXPECT_EQ(trace.ids, ids);
  EXPECT_TRUE(trace.weights.empty());
  ASSERT_EQ(recorded.steps.size(), again.steps.size());
  for (size_t i = 0; i < again.steps.size(); ++i) {
    EXPECT_EQ(recorded.steps[i].misses, again.steps[i].misses);
  }
}

TEST_F(EngineTrace, TheHeaderDescribesTheRun) {
  EngineOptions options = TwoSequences();
  options.policy = "lfu";
  options.layer_floor = 1;
  Run(options, 2);
  const TraceHeader header = Read().header;
  EXPECT_EQ(header.format, "stoker");
  EXPECT_EQ(header.model, ShippedModelPath());
  EXPECT_NE(header.model_hash, 0u);
  EXPECT_EQ(header.policy, "lfu");
  EXPECT_EQ(header.layer_floor, 1);
  EXPECT_EQ(header.catalog.layers.size(), header.layers.size());
  EXPECT_EQ(header.catalog.total_bytes(), header.total_expert_bytes());
  EXPECT_GT(header.budget_bytes, 0u);
  EXPECT_FALSE(header.slot_counts.empty());
  EXPECT_EQ(header.alignments.size(), 1u);
  EXPECT_THAT(header.settings, HasSubstr("chunk = 64\n"));
}

TEST_F(EngineTrace, EvaluationIsRecordedAsAPromptOfItsOwn) {
  EngineOptions options = SmallOptions();
  options.trace_path = path();
  options.logits_rows_max = 16;
  {
    const auto engine = OpenOrDie(options);
    std::vector<TokenId> ids = PromptIds(*engine);
    ids.resize(40);
    for (int run = 0; run < 2; ++run) {
      const auto ignore = [](const Engine::EvaluatedRows&) { return absl::OkStatus(); };
      ASSERT_TRUE(engine->Evaluate(ids, false, ignore).ok());
    }
  }
  const Trace trace = Read();
  EXPECT_EQ(trace.steps.size(), 6u);
  ASSERT_EQ(trace.rows.size(), 80u);
  EXPECT_EQ(trace.rows[39].sequence, 0);
  EXPECT_EQ(trace.rows[39].position, 39);
  EXPECT_EQ(trace.rows[40].sequence, 1);
  EXPECT_EQ(trace.rows[40].position, 0);
  EXPECT_TRUE(trace.rows[79].is_prompt);
}

// Sees what the recorder sees, through the same seams.
class Listener final : public StepObserver {
 public:
  void OnRouting(int layer, int top_k, absl::Span<const int32_t> experts,
                 absl::Span<const float> weights) override {
    layers.push_back(layer);
    widths.push_back(top_k);
    ids.insert(ids.end(), experts.begin(), experts.end());
    for (const float weight : weights) halves.push_back(FloatOfHalf(HalfOfFloat(weight)));
  }
  std::vector<int> layers;
  std::vector<int> widths;
  std::vector<uint16_t> ids;
  std::vector<float> halves;
};

TEST_F(EngineTrace, RoutingIsExactlyWhatASecondObserverSaw) {
  EngineOptions options = TwoSequences();
  options.trace_path = path();
  Listener listener;
  {
    Engine::Parts parts;
    parts.observer = &listener;
    const auto engine = OpenOrDie(options, parts);
    ASSERT_TRUE(engine->Add(GreedyRequest(PromptIds(*engine), 10)).ok());
    ASSERT_TRUE(engine->Add(GreedyRequest({1, 2, 3}, 20)).ok());
    while (!engine->idle()) ASSERT_TRUE(engine->Step().ok());
  }
  const Trace trace = Read();
  EXPECT_EQ(trace.ids, listener.ids);
  EXPECT_EQ(trace.weights, listener.halves);
  ASSERT_EQ(trace.routings.size(), listener.layers.size());
  for (size_t i = 0; i < trace.routings.size(); ++i) {
    const TraceRouting& routing = trace.routings[i];
    EXPECT_EQ(trace.header.layers[static_cast<size_t>(routing.layer_index)].layer,
              listener.layers[i]);
    EXPECT_EQ(routing.top_k, listener.widths[i]);
  }
}

TEST_F(EngineTrace, APathThatCannotBeWrittenIsAnErrorOfTheFlag) {
  EngineOptions options = SmallOptions();
  options.trace_path = folder_.File("no/x");
  const auto engine = Engine::Open(options, nullptr);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("--trace: "));
  // Nor is the model overwritten.
  options.trace_path = ShippedModelPath();
  EXPECT_THAT(std::string(Engine::Open(options, nullptr).status().message()),
              HasSubstr("is not overwritten"));
}

}  // namespace
}  // namespace stoker
