// What a store is asked for over a recorded run, in order: a trace flattened for replays.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "cache/policy.h"
#include "runtime/trace/trace.h"

namespace stoker {

// A replay's uses are experts of one layer, asked for together and pinned together.
//
// kRow: each row of a step is a request of its own, layer by layer: every use is one expert of one
// layer of one token, and what another row of the step brought is a hit. This is how programs that
// run a prompt token by token, or count so, see it.
// kStep: the rows of a step are one request for the union of their choices, each expert at its
// first use in row and rank order: what our store is asked. Its uses are fewer than the tokens'
// wherever rows share an expert.
enum class UseGrouping : uint8_t { kRow, kStep };

struct UseStream {
  struct Request {
    int64_t first_use = 0;  // its uses end where the next one's begin
    int32_t layer_index = 0;
    bool is_prompt = false;  // kStep: some row of the step is
  };
  struct Step {
    int64_t first_request = 0;  // its requests end where the next one's begin
    int32_t decode_rows = 0;    // that gave a token: all but prompt rows and drafts that were wrong
    bool is_prompt = false;     // some row is
    bool starts_prompt = false;  // nothing that ran before goes on
  };

  absl::Span<const ExpertKey> uses_of(int64_t request) const {
    const int64_t first = requests[request].first_use;
    const int64_t end = request + 1 < static_cast<int64_t>(requests.size())
                            ? requests[request + 1].first_use
                            : static_cast<int64_t>(uses.size());
    return {uses.data() + first, static_cast<size_t>(end - first)};
  }
  int64_t end_request(int64_t step) const {
    return step + 1 < static_cast<int64_t>(steps.size()) ? steps[step + 1].first_request
                                                         : static_cast<int64_t>(requests.size());
  }

  std::vector<ExpertKey> uses;
  std::vector<Request> requests;
  std::vector<Step> steps;               // as the trace's
  std::vector<int32_t> first_keys;       // by layer index
  std::vector<int32_t> layer_of_key;     // layer indices
  std::vector<uint64_t> bytes_of_layer;  // of an expert, by layer index
  int64_t token_uses = 0;                // rows x experts of a row, of steps of decoding
  int64_t prompt_token_uses = 0;
};

// Requires a trace whose ids are of its layers, as ReadTrace makes sure.
UseStream FlattenTrace(const Trace& trace, UseGrouping grouping);

}  // namespace stoker
