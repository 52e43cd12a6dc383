// How options become sizes.
#include "runtime/step_limits.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "runtime/draft_source.h"

namespace stoker {
namespace {

// Drafts that a governor may choose at most: beyond, even four right ones of five are rarely all
// right.
constexpr int kAutoDraftLengthMax = 8;
constexpr int kMtpRows = 128;

}  // namespace

Model::Options StepLimits::model_options() const {
  return {.step_rows_max = step_rows_max(),
          .logits_rows_max = logits_rows_max(),
          .context_max = context,
          .lookahead_rows_max = lookahead_rows,
          .mtp_rows_max = mtp_rows};
}

StepLimits ResolveLimits(const ModelConfig& config, const EngineOptions& options) {
  StepLimits limits;
  limits.context = options.context > 0
                       ? options.context
                       : std::clamp(config.context_max, kDefaultContextMin, kDefaultContextMax);
  limits.chunk = options.chunk > 0 ? std::min(options.chunk, limits.context) : limits.context;
  limits.sequence_count = options.sequences_max;
  limits.evaluate_rows = std::min(options.logits_rows_max, limits.chunk);
  limits.hidden_states = options.hidden_states;
  if (options.draft != "none") {
    limits.draft_length_max =
        options.draft_length >= 0 ? options.draft_length : kAutoDraftLengthMax;
  }
  if (SpecOptions(options).with_mtp) {
    limits.mtp_rows = std::max(limits.sequence_count, std::min(kMtpRows, limits.step_rows_max()));
  }
  const PrefetchChoice prefetch = PrefetcherOptions(config, options).choice;
  if (prefetch.predictor.row->needs_lookahead) limits.lookahead_rows = prefetch.rows_max;
  return limits;
}

Prefetcher::Options PrefetcherOptions(const ModelConfig& config, const EngineOptions& options) {
  absl::StatusOr<PrefetchChoice> choice = ChoosePrefetch(options.prefetch, options.settings);
  CHECK(choice.ok());
  return {.choice = *std::move(choice),
          .top_k = config.experts_used,
          .sequence_count = options.sequences_max};
}

KvCache::Options KvOptions(const StepLimits& limits, const EngineOptions& options) {
  return {.sequence_count = limits.sequence_count,
          .context = limits.context,
          .dtype = options.kv == "f32" ? Dtype::kF32 : Dtype::kF16};
}

uint64_t OutputBytes(const ModelConfig& config, const StepLimits& limits) {
  const auto vocab = static_cast<uint64_t>(config.vocab_count);
  const auto logits_rows = static_cast<uint64_t>(limits.logits_rows_max());
  uint64_t bytes = logits_rows * (vocab * sizeof(float) + sizeof(ExpSum));
  if (limits.hidden_states) {
    bytes += static_cast<uint64_t>(config.layer_count + 1) *
             static_cast<uint64_t>(limits.evaluate_rows) * static_cast<uint64_t>(config.hidden) *
             sizeof(float);
  }
  if (limits.mtp_rows > 0) {
    bytes += static_cast<uint64_t>(limits.step_rows_max()) * static_cast<uint64_t>(config.hidden) *
             sizeof(float);
  }
  return bytes;
}

}  // namespace stoker
