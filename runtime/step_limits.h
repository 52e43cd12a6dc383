// The sizes that a run is made for, resolved from options and model in one place: the memory plan
// and the engine must agree on them.
#pragma once

#include <algorithm>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "prefetch/prefetcher.h"
#include "runtime/options.h"

namespace stoker {

// The default context is the model's own within these. Files of tiny models often say less than
// the model can do.
inline constexpr int kDefaultContextMin = 512;
inline constexpr int kDefaultContextMax = 4096;

struct StepLimits {
  int context = 0;         // positions of a sequence
  int chunk = 0;           // prompt rows of a step, over all sequences; at most `context`
  int sequence_count = 0;  // that run at once
  int evaluate_rows = 0;   // rows of a step of Engine::Evaluate; 0: not asked for
  bool hidden_states = false;
  int lookahead_rows = 0;  // rows of a step whose next routers may be guessed; 0: never
  int mtp_rows = 0;  // rows of a step of the layer for multi-token prediction; 0: it is not used
  int draft_length_max = 0;  // drafts of a sequence that a step may check

  // A step holds one row of each decoding sequence, with its drafts, and when another one reads its
  // prompt, a chunk.
  int decode_rows_max() const { return sequence_count * (1 + draft_length_max); }
  int step_rows_max() const {
    return std::max(decode_rows_max(), chunk + decode_rows_max() - (1 + draft_length_max));
  }
  int logits_rows_max() const { return std::max(evaluate_rows, decode_rows_max()); }
  Model::Options model_options() const;
};

// Requires valid options.
StepLimits ResolveLimits(const ModelConfig& config, const EngineOptions& options);

KvCache::Options KvOptions(const StepLimits& limits, const EngineOptions& options);

// Requires valid options. Its choice is none without a predictor.
Prefetcher::Options PrefetcherOptions(const ModelConfig& config, const EngineOptions& options);

// Bytes of what a step puts out: logits, what belongs to each row of them, hidden states, and what
// multi-token prediction starts from.
uint64_t OutputBytes(const ModelConfig& config, const StepLimits& limits);

}  // namespace stoker
