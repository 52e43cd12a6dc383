// What a model file holds and what a run of it would take, without taking it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "io/gguf.h"
#include "model/model.h"
#include "runtime/budget.h"
#include "runtime/options.h"

namespace stoker {

struct Inspection {
  GgufModel gguf;
  ModelSpec spec;
  std::string tokenizer;  // its description, or why it cannot be used
  MemoryPlan plan;        // of a run with the least RAM; full_bytes is the best one's
};

// The RAM budget in `options` is not looked at. The errors of Engine::Open, but for the
// tokenizer's.
absl::StatusOr<Inspection> Inspect(const EngineOptions& options);

// The plan that Engine::Open would make and keep to, with the errors that it would have until then,
// but for the tokenizer's.
absl::StatusOr<MemoryPlan> PlanRun(const EngineOptions& options);

}  // namespace stoker
