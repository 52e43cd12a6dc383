// The model that ships with the project, opened and run the way most tests here want it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine.h"
#include "tests/testing/shared_data.h"

namespace stoker {

inline std::string ShippedModelPath() { return SourceDir() + "/models/moe-27m.q4_k.gguf"; }

// About a hundred tokens.
inline constexpr std::string_view kPromptText =
    "The old house stood at the end of the lane, where the trees grew so close that the light of "
    "the morning came late to its windows. Nobody had lived there since the winter in which the "
    "river rose, and yet, when she passed it on her way to the village, she saw that the door was "
    "open and that somebody had swept the steps. She stopped, and for a moment she thought that "
    "she heard a voice. \"Come in,\" it said.";

inline EngineOptions SmallOptions() {
  EngineOptions options;
  options.model_path = ShippedModelPath();
  options.ram = {.kind = MemoryBudget::Kind::kMinimum};
  options.threads = 2;
  options.context = 256;
  options.chunk = 64;
  return options;
}

inline std::unique_ptr<Engine> OpenOrDie(const EngineOptions& options,
                                         const Engine::Parts& parts = {}) {
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Open(options, /*progress=*/nullptr, parts);
  if (!engine.ok()) {
    ADD_FAILURE() << engine.status();
    std::abort();
  }
  return *std::move(engine);
}

inline std::vector<TokenId> PromptIds(const Engine& engine) {
  return engine.tokenizer().Encode(kPromptText, {});
}

inline SequenceRequest GreedyRequest(std::vector<TokenId> prompt, int64_t tokens_max) {
  SequenceRequest request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.tokens_max = tokens_max;
  request.stop_at_end = false;
  return request;
}

// What came of one sequence.
struct SequenceOutcome {
  std::vector<TokenId> tokens;
  std::string text;
  FinishReason finish = FinishReason::kNone;
};

inline void AddEvents(absl::Span<const TokenEvent> events, SequenceId id,
                      SequenceOutcome& outcome) {
  for (const TokenEvent& event : events) {
    if (event.sequence != id) continue;
    if (event.token >= 0) outcome.tokens.push_back(event.token);
    outcome.text += event.text;
    outcome.finish = event.finish;
  }
}

// Steps until the sequence has ended.
inline SequenceOutcome RunToEnd(Engine& engine, SequenceId id) {
  SequenceOutcome outcome;
  while (outcome.finish == FinishReason::kNone && !engine.idle()) {
    const auto events = engine.Step();
    if (!events.ok()) {
      ADD_FAILURE() << events.status();
      break;
    }
    AddEvents(*events, id, outcome);
  }
  return outcome;
}

inline SequenceOutcome Generate(Engine& engine, SequenceRequest request) {
  const absl::StatusOr<SequenceId> id = engine.Add(std::move(request));
  if (!id.ok()) {
    ADD_FAILURE() << id.status();
    return {};
  }
  return RunToEnd(engine, *id);
}

}  // namespace stoker
