// One line of a batch's input: a prompt and how it is to be continued.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/options.h"

namespace stoker {

// What holds for a line that does not say otherwise.
struct BatchDefaults {
  SamplingOptions sampling;  // its seed is the run's
  int64_t tokens_max = 128;  // -1: until the text or the context ends
  std::vector<std::string> stops;
};

struct BatchRequest {
  std::string id_json;  // as JSON: a text or a whole number
  std::string prompt;
  SamplingOptions sampling;
  int64_t tokens_max = 0;
  std::vector<std::string> stops;
};

// Reads a line: an object with a `prompt`, and where wanted an `id` and the fields of
// `BatchDefaults`, under the names of SamplingOptions or those of the flags ("top_k", "top-k").
// Without an id it is `line`, counted from 1; without a seed SeedOfLine. InvalidArgument naming the
// field, what is allowed, and for an unknown field the nearest known one.
absl::StatusOr<BatchRequest> ParseBatchRequest(std::string_view text, int64_t line,
                                               const BatchDefaults& defaults);

// The seed of a line without one: the run's seed and the line's number through SplitMix64 (Steele,
// Lea, Flood, 2014), of which 53 bits are kept: every JSON reader can hold them exactly.
uint64_t SeedOfLine(uint64_t run_seed, int64_t line);

}  // namespace stoker
