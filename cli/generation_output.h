// How generated tokens leave the program: as text while they come, or as JSON records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "cli/console.h"
#include "runtime/engine.h"
#include "runtime/statistics.h"

namespace stoker {

class GenerationOutput {
 public:
  struct Token {
    size_t prompt = 0;       // index of the prompt it continues
    int64_t elapsed_ns = 0;  // since generation began
    const TokenEvent& event;
    const StepRecord& step;  // the step that made it
  };
  virtual ~GenerationOutput() = default;
  // The error of Console::Print.
  virtual absl::Status Put(const Token& token) = 0;
  // `engine` is the one that ran.
  virtual absl::Status Finish(const RunSummary& summary, const Engine& engine) = 0;
};

// The text alone. Of several prompts the first unfinished one streams; the others wait for their
// turn, each under a header.
std::unique_ptr<GenerationOutput> MakeTextOutput(Console& console, size_t prompt_count);
// One record a token, and one summary.
std::unique_ptr<GenerationOutput> MakeJsonOutput(Console& console, size_t prompt_count);

}  // namespace stoker
