// Logits to one token, as a pure function: no generator state, so a token never depends on what
// else was sampled, on batching or on drafting.
//
// Order, as in llama.cpp's default chain:
//   1. penalties on the tokens of the window: repetition (divides a positive logit, multiplies a
//      negative one), then frequency (per occurrence) and presence (once), both subtracted
//   2. temperature 0: the best logit, ties to the lower id. Otherwise:
//   3. top-k: the k best, ties to the lower id
//   4. top-p: of those, the least number of best ones whose probabilities reach p
//   5. min-p: of those, the ones with at least min_p times the best one's probability
//   6. the kept candidate with the greatest logit / temperature + Gumbel noise keyed by (seed,
//      position, token id); ties to the lower id. By the Gumbel-max trick this draws from the
//      softmax of the kept logits at that temperature (Gumbel 1954; Maddison, Tarlow, Minka: A*
//      Sampling, 2014).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/options.h"
#include "tokenizer/tokenizer.h"

namespace stoker {

// Scratch for one vocabulary; takes its memory at construction. One thread.
class Sampler {
 public:
  // `history_max`: tokens of the longest sequence.
  Sampler(int vocab_count, int history_max);
  static uint64_t PlanBytes(int vocab_count, int history_max);

  // The token that follows `history` (all tokens of the sequence, prompt included; ids within the
  // vocabulary), at position history.size(). Changes the logits of penalized tokens in place.
  // Requires valid options. DataLoss when no logit is finite: the weights are damaged.
  absl::StatusOr<TokenId> Sample(absl::Span<float> logits, absl::Span<const TokenId> history,
                                 const SamplingOptions& options);

 private:
  struct Candidate {
    float logit;
    TokenId id;
  };
  static bool Better(const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  }

  void Penalize(absl::Span<float> logits, absl::Span<const TokenId> history,
                const SamplingOptions& options);
  void GatherTopK(absl::Span<const float> logits, int top_k);
  void KeepTopP(float top_p);
  void KeepMinP(float min_p);
  TokenId Draw(const SamplingOptions& options, int64_t position) const;

  std::vector<Candidate> candidates_;
  std::vector<TokenId> window_;
};

}  // namespace stoker
